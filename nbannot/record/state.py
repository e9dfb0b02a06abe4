"""The state of a run: what its ledger and its task say, whatever ended its sessions and wherever they had got to.

Everything that tells of a run's answers reads this: ``output.csv``, tables, report, card, comparison, `load_run`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nbannot.asking.answers import REPORTED, Answer
from nbannot.asking.applies import BLANK, NOT_REACHED, why_not_asked
from nbannot.asking.decisions import Reading, calibrated_answer
from nbannot.asking.ledger_lines import read_calls, read_lines
from nbannot.asking.option_order import as_in_codebook
from nbannot.engine.schedule import CALIBRATION_TEXTS
from nbannot.engine.sending import ASK_AGAIN
from nbannot.errors import RunError
from nbannot.record.coding import ASKED_AGAIN, NOT_CALIBRATED, Coding, from_output
from nbannot.record.folder import LEDGER, OUTPUT, TIMING
from nbannot.record.probabilities import with_probabilities
from nbannot.study.field import Field
from nbannot.study.task import Task
from nbannot.tools.files import read_json

NO_ANSWER = ("failed", "not_asked")
"""Statuses of a call that brought no reply."""


@dataclass(frozen=True)
class State:
    """What the ledger of a run holds.

    Attributes
    ----------
    offsets
        column -> calibration offset per label, where a field's answers are calibrated.
    calls
        Number of calls in the ledger.
    unfitting
        Number of answers that could not be asked for because of a setting or the server, e.g. its context window.
    """

    coding: Coding
    offsets: Mapping[str, tuple[float, ...]]
    calls: int
    unfitting: int


def read_state(
    task: Task, ledger: Path, config: Mapping[str, Any], coder: str = "", *, through: bool = False
) -> State:
    """Return the state of a run.

    Of a question's answers, the last valid one counts, else the last reply that came, else the last failure. A
    failure counts against a reply only where the question is asked again by itself.

    Parameters
    ----------
    config
        The content of its ``config.json``: the columns that were asked, the attempts, whether answers were scored.
    through
        Whether the run has just come to its end, so that no attempt can be left.

    Raises
    ------
    RunError
        If the ledger was changed by something else.
    """
    reading = _Found(task, config["columns_asked"], int(config.get("retries") or 0) + 1, ledger)
    reading.how = Reading(
        config.get("threshold", 0.5),
        config.get("scale_answer", "modal"),
        config.get("option_order", "codebook"),
        config.get("seed"),
    )
    scored = config.get("answer_mode_used") == "score"
    calibrated = config.get("calibration_used") == "batch"
    for text_id, given in reading.whole_lines() if scored or calibrated else reading.heads():
        reading.take(text_id, given)
    answers: dict[str, list[Answer]] = {}
    unfitting = 0
    for f in task.codebook.in_order:
        if f.column in reading.of:
            above = answers.get(f.condition.column) if f.condition else None
            never = (config.get("not_asked") or {}).get(f.column, "")
            answers[f.column], n = _settled(f, task, reading.of[f.column], above, never)
            unfitting += n
            if not through and not (scored and f.type not in ("textbox", "span")):
                again = ASK_AGAIN[config.get("retry_strategy") or "reprompt"]
                answers[f.column] = [_so_far(a, again, reading.allowed) for a in answers[f.column]]
            if calibrated and f.labels:
                offset, frozen = reading.offsets.get(f.column), f.column in reading.frozen
                answers[f.column] = _calibrated(f, answers[f.column], offset, reading.how, frozen=frozen)
    coding = Coding(task, {f.column: answers[f.column] for f in task.codebook if f.column in answers}, coder)
    return State(coding, reading.offsets, reading.calls, unfitting)


def state_of_folder(task: Task, folder: Path, config: Mapping[str, Any]) -> State:
    """Return the state of the run in a folder; where there is no ledger at all, what ``output.csv`` says.

    Raises
    ------
    RunError
        If the ledger has fewer calls than when the run was last written down.
    """
    state = read_state(task, folder / LEDGER, config, str(config["run_id"]))
    before = int(read_json(folder / TIMING).get("inference_count") or 0)
    # Published without its ledger, or made by hand; a run of ours that has just begun has no output.csv yet.
    alone = not (folder / LEDGER).exists() and (folder / OUTPUT).exists()
    if state.calls >= before and not alone:
        return state
    if state.calls == 0:
        read = from_output(
            task, folder, config["columns_asked"], str(config["run_id"]), config.get("not_asked") or {}
        )
        return State(with_probabilities(read, folder), {}, 0, 0)
    raise RunError(
        f"{folder / LEDGER} was cut or replaced: it has {state.calls:,} calls, of the {before:,} that "
        f"{TIMING} counts.\n  Put it back from a copy; or, if they are lost, remove {TIMING}, and run the same again."
    )


class _Found:
    """The answers in a ledger, one list per column."""

    def __init__(self, task: Task, columns: Sequence[str], allowed: int, ledger: Path) -> None:
        self.task, self.allowed, self.ledger = task, allowed, ledger
        self.of: dict[str, list[Answer | None]] = {
            f.column: [None] * len(task) for f in task.codebook if f.column in columns
        }
        self.offsets: dict[str, tuple[float, ...]] = {}
        self.frozen: set[str] = set()
        self.how = Reading()
        self.calls = 0
        self._rows = {text_id: row for row, text_id in enumerate(task.ids)}
        self._same: dict[Any, Answer] = {}

    def heads(self) -> Iterator[tuple[str, list[Answer]]]:
        """Yield text id and answers of every call; equal answers are one object: a million of them stay small."""
        return read_calls(self.ledger, lambda call: self._answers(call, {}))

    def whole_lines(self) -> Iterator[tuple[str, list[Answer]]]:
        """Yield them with the probabilities of their labels, and take note of calibrations."""
        for record in read_lines(self.ledger):
            if "text_id" in record:
                yield record["text_id"], self._answers(record, record)
            elif record.get("calibration") in self.of:
                self.offsets[record["calibration"]] = tuple(record["offset"])
                self.frozen |= {record["calibration"]} if record.get("frozen") else set()

    def _answers(self, call: Mapping[str, Any], whole: Mapping[str, Any]) -> list[Answer]:
        """Return the answers of a call, with the probabilities that its whole line holds."""
        decisions = whole.get("decisions")
        answers = []
        for stored in call.get("answers", ()):
            if stored.get("column") in self.of:
                f = self.task.codebook[stored["column"]]
                shares = whole.get("probabilities")
                if isinstance(decisions, Mapping):
                    shares = decisions.get(f.column, {}).get("probabilities")
                    if len(shares or ()) == len(f.labels) and self.how.order != "codebook":
                        shares = as_in_codebook(f, shares, self.how.order, self.how.seed)
                answers.append(self._answer(f, stored, call["attempt"], shares))
        return answers

    def _answer(
        self, f: Field, stored: Mapping[str, Any], attempt: int, probabilities: Sequence[float] | None
    ) -> Answer:
        ok, value = stored.get("status") == "ok", None
        if ok and (value := _value(f, stored.get("value"))) is None:
            raise RunError(
                f"{self.ledger} holds an answer to {f.column} that is none: {str(stored.get('value'))[:60]!r}.\n"
                "  The file was changed by something else; put it back, or start again with fresh = true."
            )
        scored = probabilities if ok and len(probabilities or ()) == len(f.labels) else None
        answer = Answer(
            f.column,
            stored["status"],
            value,
            reason=stored.get("reason", ""),
            repaired=stored.get("repaired", False),
            unaligned=tuple(stored.get("unaligned", ())),
            probabilities=tuple(scored) if scored else None,
            attempt=attempt,
        )
        return answer if isinstance(value, list) else self._same.setdefault(answer, answer)

    def take(self, text_id: str, answers: Sequence[Answer]) -> None:
        """Take the answers of one call."""
        self.calls += 1
        row = self._rows.get(text_id, -1)
        for answer in answers if row >= 0 else ():
            column = self.of[answer.column]
            if self._counts(answer, column[row]):
                column[row] = answer

    def _counts(self, answer: Answer, before: Answer | None) -> bool:
        """Return whether an answer counts in place of an earlier one."""
        if before is None or answer.status == "ok":
            return True
        if before.status == "ok":
            return False
        if answer.status in NO_ANSWER and before.status not in NO_ANSWER:
            return answer.status == "failed" and answer.attempt <= self.allowed
        return True


def _value(f: Field, stored: Any) -> Any:
    """Return a value of the ledger as a value of the field; ``None`` if it is none."""
    if f.type == "textbox":
        return stored if isinstance(stored, str) else None
    if f.type == "span":
        return stored if isinstance(stored, list) and all(isinstance(span, dict) for span in stored) else None
    try:
        return f.read(f.to_cell(stored))
    except (ValueError, TypeError, OverflowError):
        return None


def _settled(
    f: Field, task: Task, last: Sequence[Answer | None], above: Sequence[Answer] | None, never: str
) -> tuple[list[Answer], int]:
    """Return the answer of one field to each text, and how many could not be asked for."""
    answers, unfitting = [], 0
    for row, answer in enumerate(last):
        parent = above[row] if above is not None else None
        settled = why_not_asked(f, task.texts[row], task.codebook, parent, never)
        if settled is None:
            settled = answer or Answer(f.column, "not_asked", reason=NOT_REACHED)
            unfitting += settled.status == "not_asked" and answer is not None
        answers.append(settled)
    return answers, unfitting


def _so_far(answer: Answer, again: Sequence[str], allowed: int) -> Answer:
    """Return an answer, with a word if the engine asks again and was interrupted before it did.

    A scored question is asked once, and a text that a provider refuses is not sent again.
    """
    if answer.status not in again or answer.attempt >= allowed or answer.reason.startswith(REPORTED):
        return answer
    return replace(answer, reason=ASKED_AGAIN)


def _calibrated(
    f: Field, answers: list[Answer], offset: Sequence[float] | None, how: Reading, *, frozen: bool
) -> list[Answer]:
    """Return the answers with the calibration of their field; with a word where it is still to come.

    Parameters
    ----------
    frozen
        Whether the calibration was settled on other texts before, an empty one included: there is none then.
    """
    if frozen and not offset:
        return answers
    n_asked = sum(a.status != "not_applicable" and a.reason != BLANK for a in answers)
    if offset is None and n_asked < CALIBRATION_TEXTS:
        return answers  # too few texts to calibrate on: the engine takes them as they are
    calibrated = []
    for answer in answers:
        if answer.status == "ok" and answer.probabilities is not None:
            answer = Answer(
                f.column,
                "ok",
                answer.value,
                reason=NOT_CALIBRATED if offset is None else "",
                probabilities=answer.probabilities,
                attempt=answer.attempt,
            )
        calibrated.append(calibrated_answer(f, answer, offset, how))
    return calibrated
