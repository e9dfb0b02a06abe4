"""Running on a corpus: block by block, each an ordinary task to the engine, with a segment of the ledger of its own.

What is in memory at any time is one block. A block that is finished is written down (its labels and its sums) and not
looked at again; a run that is continued begins with the first that is not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from nbannot.asking.ledger import Ledger, Usage
from nbannot.asking.request_reply import Model
from nbannot.engine import energy
from nbannot.engine.drive import Tick
from nbannot.engine.engine import annotate
from nbannot.engine.job import Job, Outcome, Progress, used_since
from nbannot.engine.served import answered_by, served_by
from nbannot.errors import NbannotError, RunError, RunInterrupted
from nbannot.page.shown import watching
from nbannot.record import folder
from nbannot.record.corpus_output import output_fault, write_output
from nbannot.record.corpus_parts import Parts, Sums
from nbannot.record.corpus_run import CorpusRun, load_corpus_run, read_gold, save_gold
from nbannot.record.run import COMPLETE, FAILED, PARTIAL, RUNNING
from nbannot.record.state import read_state
from nbannot.running.corpus_design import (
    CorpusDesign,
    asked_of,
    corpus_config,
    design_corpus,
    duplicates_in_words,
    job_of,
    open_blocks,
    other_versions,
    scored_by,
)
from nbannot.running.design import Say
from nbannot.running.run_config import (
    Served,
    capabilities_of,
    config_of,
    model_changes,
    other_country,
    same_run,
)
from nbannot.running.scores import KEPT, save_scores, scores_are_saved
from nbannot.running.standard_files import write_energy
from nbannot.study.config import RunConfig
from nbannot.study.corpus import Corpus
from nbannot.study.task import Task
from nbannot.tools.either import Either
from nbannot.tools.files import read_json, write_json

WRITTEN = (folder.OUTPUT_TABLE, folder.GOLD, folder.TIMING, folder.CHARS)
"""Files of a finished run; where one is gone, all are written again from the blocks."""


def run_corpus(
    corpus: Corpus,
    config: RunConfig,
    *,
    fresh: bool = False,
    retry: Literal["invalid", "failed"] | None = None,
    tick: Tick | None = None,
    stop: threading.Event | None = None,
    say: Say | None = None,
) -> CorpusRun:
    """Annotate a corpus; see `run`."""
    plan, model = design_corpus(corpus, config, say=say)
    while fresh and not folder.claim(plan.head.folder):
        config = config.change(repeat=config.repeat + 1)
        plan, model = design_corpus(corpus, config, model)
    place = plan.head.folder
    if finished := _finished(plan, retry, say):
        return finished
    folder.make_folder(place)
    with folder.held(place):
        if finished := _finished(plan, retry, say):
            return finished
        if not read_json(place / folder.CONFIG):
            for line in other_versions(plan):
                if say:
                    say(line)
            write_json(place / folder.CONFIG, corpus_config(plan, RUNNING))
        parts = Parts(place)
        parts.make()
        parts.sweep()
        if plan.gold.label_columns or _gold_fault(place):
            save_gold(place, plan.gold, plan.chosen)
        done = _Work(plan, model, parts, stop, say, retry).done(tick)
    outcome = done.outcome
    if outcome is not None and outcome.raised is not None:
        raise outcome.raised
    if outcome is not None and outcome.interrupted:
        finished = done if any(of.get("ok") for of in done.sums.counts.values()) else None
        raise RunInterrupted.after(done.progress, place, finished)
    return done


def _finished(plan: CorpusDesign, retry: str | None, say: Say | None) -> CorpusRun | None:
    """Return the run if it is finished; scored anew where people's labels are others now."""
    place = plan.head.folder
    stored = read_json(place / folder.CONFIG)
    same_run(stored, plan.head)
    if stored.get("status") != COMPLETE or retry == "invalid":
        return None
    if not all((place / name).exists() for name in WRITTEN) or _gold_fault(place):
        return None
    parts, kept = Parts(place), stored["corpus"].get("output")
    sums = parts.sums()
    if sum(of.asked for of in sums.values()) != plan.asked:  # the labels of a block are gone
        return None
    if any(parts.goes_on(block, of) for block, of in sums.items()):  # killed while it was asked about again
        return None
    fault = output_fault(place / folder.OUTPUT_TABLE, kept, whole=True)
    if fault or (kept and kept["labels"] != parts.digest()):
        return None
    config = stored | scored_by(stored, plan.head.config)
    finished = load_corpus_run(place, config)
    if finished.unfitting and retry == "failed":
        return None
    if plan.gold.label_columns and not plan.gold.data.equals(finished.task.data):
        save_gold(place, plan.gold, plan.chosen)
        finished = load_corpus_run(place, config)
    if config != stored:
        write_json(place / folder.CONFIG, config)
    if config != stored or not scores_are_saved(finished):
        save_scores(finished)
        finished = load_corpus_run(place, read_json(place / folder.CONFIG))
    if say and (word := other_country(stored, plan.head)):
        say(word)
    return finished


def _gold_fault(place: Path) -> str:
    """Return why the texts that people coded cannot be read; "" if they can."""
    try:
        read_gold(place)
    except RunError as error:
        return str(error)
    return ""


class _Work:
    """One session of work on a corpus."""

    def __init__(
        self,
        plan: CorpusDesign,
        model: Model,
        parts: Parts,
        stop: threading.Event | None,
        say: Say | None,
        retry: str | None,
    ) -> None:
        self.plan, self.model, self.parts, self.say = plan, model, parts, say
        self.retry = retry
        self.end = Either(stop)
        self.config = config_of(plan.head, RUNNING)
        self.sums = parts.sums()
        self.offsets: dict[str, list[float]] | None = next(
            (self.sums[block].offsets for block in sorted(self.sums)[:1] if self.sums[block].through), None
        )
        kept = plan.head.folder / folder.EMISSIONS_SO_FAR
        self.killed = energy.take_left(kept, plan.head.folder / folder.EMISSIONS)
        self.meter = energy.Meter(plan.head.config.country_iso_code, kept)
        self.fields = len(plan.head.job.fields)
        self.progress = Progress(total=plan.asked * self.fields)
        self.before = Progress()
        self.spent = dict.fromkeys(("calls", "tokens", "money"), 0.0)
        self.digest: str | None = None
        self.notes: dict[str, None] = {}
        self.metered = False
        self.stopped = ""
        self.pool = ThreadPoolExecutor(1, "nbannot-compress")
        self.compressing: list[Future[None]] = []

    def done(self, tick: Tick | None) -> CorpusRun:
        """Ask what is not answered yet, write everything down, and return the run."""
        for line in (*self.plan.head.opening_lines, *duplicates_in_words(self.plan)):
            self._tell(line)
        started = time.monotonic()
        outcome = Outcome({}, self.progress)
        try:
            with watching(f"{self.plan.corpus.name} · {self.plan.head.config.model}", tick) as shown:
                self._blocks(shown, outcome)
        except KeyboardInterrupt:
            outcome.interrupted, outcome.stopped = True, "stopped by the user"
        except BaseException as error:
            with contextlib.suppress(NbannotError, OSError):
                outcome.stopped = str(error)
                self._finish(outcome, time.monotonic() - started)
            raise
        finally:
            self.pool.shutdown(wait=True)
            records = energy.records_of(self.meter, self.model)
        return self._finish(outcome, time.monotonic() - started, records)

    def _tell(self, line: str) -> None:
        if self.say:
            self.say(line)

    def _blocks(self, shown: Tick | None, outcome: Outcome) -> None:
        plan = self.plan
        ended_before = read_json(plan.head.folder / folder.CONFIG).get("status") == COMPLETE
        left = [n for n in range(plan.blocks) if self._is_open(n)]
        self.progress.done = self.fields * sum(of.asked for n, of in self.sums.items() if n not in left)
        for n in set(range(plan.blocks)) - set(left):
            if plan.corpus.compress and self.parts.segment(n).exists():
                self.compressing.append(self.pool.submit(self.parts.compress, n))
        for number, block in open_blocks(left, plan):
            plan.corpus.check()
            if self.end.is_set():
                outcome.interrupted, outcome.stopped = True, "stopped by the user"
                return
            if why := self._over_budget():
                outcome.stopped = why
                return
            task = asked_of(plan.corpus, plan.chosen, block)
            if len(task):
                unknown = number not in self.sums and not self.parts.stored_segment(number).exists()
                if ended_before and unknown:
                    self._tell(
                        f"labels and ledger of block {number} are gone: its {len(task):,} texts are asked about anew."
                    )
                ended = self._block(number, task, shown)
                outcome.stopped, outcome.interrupted, outcome.raised = (
                    ended.stopped,
                    ended.interrupted,
                    ended.raised,
                )
                if ended.stopped or ended.raised is not None:
                    if ended.stopped.startswith("the budget is spent"):
                        outcome.stopped = self._over_budget() or ended.stopped
                    return

    def _is_open(self, block: int) -> bool:
        """Return whether a block is to be worked on."""
        sums = self.sums.get(block)
        if sums is None or sums.open or self.parts.goes_on(block, sums):
            return True
        return (self.retry == "invalid" and bool(sums.invalid)) or (
            self.retry == "failed" and bool(sums.unfitting)
        )

    def _block(self, number: int, task: Task, shown: Tick | None) -> Outcome:
        """Ask about the texts of one block, and write down what came of it."""
        book = self._segment(number)
        before = dataclasses.replace(book.tally)
        at, measured = self.progress.done, self.plan.head.info.energy_measured
        known = dataclasses.replace(self.progress)

        def look(progress: Progress) -> None:
            self._add(known, progress, at)
            try:
                book.check()
            except RunError:
                self.end.set()
            if shown:
                shown(self.progress)

        try:
            if self.offsets is not None:
                self._freeze(book)
            outcome = annotate(
                self._job(task),
                self.model,
                book,
                tick=look,
                stop=self.end,
                ask_again=self.retry == "invalid",
                kwh=energy.in_sum(self.meter, self.model) if measured else lambda: 0.0,
                ready=self._ready if measured else lambda: None,
            )
            self._add(known, outcome.progress, at)
            self.digest = outcome.digest or self.digest
            self.notes |= dict.fromkeys(outcome.notes)
            book.close()
        finally:
            book.let_go()
        self._spend(book, before)
        self._write_down(number, task, book, through=not outcome.stopped and outcome.raised is None)
        return outcome

    def _segment(self, number: int) -> Ledger:
        """Return the segment of the ledger of a block, to be added to; it holds every call that was paid for.

        Raises
        ------
        RunError
            If it is gone, damaged or cut: what it held would be asked, and paid for, anew.
        """
        known = self.sums.get(number, Sums())
        path, was = self.parts.segment(number), "(.gz) is gone"
        if self.parts.stored_segment(number).exists() or not known.calls:
            self.parts.reopen(number)
            book = Ledger(path)
            if (calls := book.tally.calls) >= known.calls:
                return book
            book.let_go()
            was = f" was cut: {calls:,} of its {known.calls:,} calls are left"
        sums = self.parts.labels / f"{number:06d}.json"
        raise RunError(
            f"{path}{was}. It is the ledger of block {number}: to go on would ask, and pay for, what it held anew.\n"
            f"  Put it back from a copy. Without one, remove {sums} and run the same again, which does so."
        )

    def _ready(self) -> None:
        if not self.metered:
            self.metered = True
            self.meter.start()

    def _add(self, known: Progress, now: Progress, at: int) -> None:
        """Bring the progress of the whole up to that of a block."""
        whole = self.progress
        whole.done = at + now.done
        for name in ("calls", "cached", "retries", "not_ok"):
            setattr(whole, name, getattr(known, name) + getattr(now, name))
        whole.in_flight = now.in_flight
        whole.asking_since = whole.asking_since or now.asking_since

    def _freeze(self, book: Ledger) -> None:
        """Let the calibration that was found on the first block hold for this one."""
        offsets = self.offsets or {}
        frozen = {note["calibration"] for note in book.notes if note.get("frozen")}
        for f in self.plan.head.job.fields if self.plan.head.job.calibrated else ():
            if f.labels and f.column not in frozen:
                offset = list(offsets.get(f.column, ()))
                book.note(calibration=f.column, offset=offset, frozen=True)
                book.notes.append({"calibration": f.column, "offset": offset, "frozen": True})

    def _job(self, task: Task) -> Job:
        """Return the questions about one block, within what is left of the budget."""
        config = self.plan.head.config
        budget = config.budget
        if budget:
            spent = {**self.spent, "minutes": self.progress.elapsed_s / 60}
            budget = {name: most - spent.get(name, 0.0) for name, most in budget.items()}
        left = dataclasses.replace(config)
        object.__setattr__(left, "budget", budget)
        return job_of(self.plan, task, left)

    def _spend(self, book: Ledger, before: Usage) -> None:
        tokens, money = used_since(before, book.tally, self.plan.head.job)
        self.spent["calls"] += book.tally.calls - before.calls
        self.spent["tokens"] += tokens
        self.spent["money"] += money

    def _over_budget(self) -> str:
        """Return in words what is spent of the budget; "" while there is something left of everything."""
        budget = self.plan.head.config.budget or {}
        spent = {**self.spent, "minutes": self.progress.elapsed_s / 60}
        over = [
            f"{name} {spent[name]:.6g} of {most:g}"
            for name, most in budget.items()
            if spent.get(name, -1.0) >= most
        ]
        return f"the budget is spent: {', '.join(over)}" if over else ""

    def _write_down(self, number: int, task: Task, book: Ledger, *, through: bool) -> None:
        state = read_state(task, book.path, self.config, self.plan.head.run_id, through=through)
        sums = Sums.of(book.tally, state.coding, state.unfitting, state.offsets, through=through)
        sums.ledger_bytes = book.path.stat().st_size
        self.parts.write(number, state.coding, task.rows or (), sums)
        self.sums[number] = sums
        if through and self.offsets is None:
            self.offsets = sums.offsets
        if not sums.open and self.plan.corpus.compress:
            self.compressing.append(self.pool.submit(self.parts.compress, number))

    def _finish(
        self, outcome: Outcome, wall_time: float, records: Sequence[dict[str, Any]] = ()
    ) -> CorpusRun:
        """Write the files of the folder as the blocks have them, and score what people coded."""
        plan, place = self.plan, self.plan.head.folder
        sums = Sums()
        for block in self.sums.values():
            sums.add(block)
        reached = [n for n in range(plan.blocks) if n in self.sums]
        whole = not sums.open and len(reached) == plan.blocks - self._without_question()
        ok = any(of.get("ok") for of in sums.counts.values())
        status = COMPLETE if whole else PARTIAL if ok else FAILED
        write_energy(place, records)
        gap = self.meter.problem or getattr(self.model, "energy_gap", "") or self.killed
        _write_counts(place, sums, outcome.progress, wall_time)
        before = read_json(place / folder.CONFIG)
        words = energy.problem_in_words(
            gap,
            place / folder.EMISSIONS,
            str(before.get("energy") or ""),
            measured=plan.head.info.energy_measured,
            begun=sums.calls > outcome.progress.calls,
        )
        about = corpus_config(plan, RUNNING) | scored_by(before, plan.head.config)
        about |= {name: before[name] for name in KEPT if name in before}
        about["corpus"] |= {name: (before.get("corpus") or {}).get(name) for name in ("counts", "output")}
        if not outcome.interrupted:
            counts, written = write_output(
                plan.corpus, plan.chosen, plan.size, self.parts, list(plan.head.job.fields)
            )
            about["corpus"] |= {"counts": counts, "output": vars(written) if written else None}
        served: Served = Counter({(m, mark): n for m, mark, n in sums.served})
        write_json(
            place / folder.CONFIG,
            about
            | {
                "status": status,
                "stopped": outcome.stopped,
                "capabilities": capabilities_of(place, self.model, outcome.progress),
                "calibration_offsets": self.offsets or sums.offsets,
                "served_by": served_by(served),
                **answered_by(sums.by_server),
                "model_changes": model_changes(
                    place, served, plan.head.info.digest, self.digest, list(self.notes)
                ),
                **({"energy": words} if words else {}),
                "first_call": sums.first,
                "last_call": sums.last,
            },
        )
        done = dataclasses.replace(load_corpus_run(place, read_json(place / folder.CONFIG)), outcome=outcome)
        save_scores(done)
        return dataclasses.replace(done, config=read_json(place / folder.CONFIG))

    def _without_question(self) -> int:
        """Return how many blocks hold nothing but texts that stand in earlier ones: they are never written down."""
        plan = self.plan
        if not len(plan.chosen.again):
            return 0
        rows = plan.chosen.again
        places = rows if plan.chosen.rows is None else plan.chosen.rows.searchsorted(rows)
        import numpy as np

        again = np.bincount(places // plan.size, minlength=plan.blocks)
        sizes = [min(plan.size, plan.chosen.n - n * plan.size) for n in range(plan.blocks)]
        return sum(n not in self.sums and again[n] == sizes[n] for n in range(plan.blocks))


def _write_counts(place: Path, sums: Sums, progress: Progress, wall_time: float) -> None:
    """Write ``timing_data.json`` and ``char_counts.json``, as a task has them."""
    before = read_json(place / folder.TIMING)
    shares = {f"latency_p{p}": value for p in (50, 90, 99) if (value := sums.percentile(p)) is not None}
    write_json(
        place / folder.TIMING,
        {
            "total_inference_time": sums.seconds,
            "avg_inference_time": sums.seconds / sums.calls if sums.calls else 0.0,
            "inference_count": sums.calls,
            "wall_time": (before.get("wall_time") or 0.0) + wall_time,
            "retry_count": sums.retries,
            "cached_count": progress.cached,
            **shares,
        },
    )
    more = {"by_model": sums.by_model} if len(sums.by_model) > 1 else {}
    write_json(place / folder.CHARS, sums.char_counts() | more)
