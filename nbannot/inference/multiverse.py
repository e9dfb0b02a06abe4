"""Multiverse: the user's own estimate under every run. Does the finding depend on the settings?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbannot.comparing.names import names_of
from nbannot.errors import NbannotError, ScoringError
from nbannot.inference.finding import Drawn, Finding, looks_at, plain
from nbannot.page.blocks import Block, Bullets, Cell, Grid, Heading, Para, Row
from nbannot.page.digits import interval, share
from nbannot.report.words import plural
from nbannot.tools.frames import make_frame
from nbannot.tools.imports import load

if TYPE_CHECKING:
    from nbannot.inference.grid import Estimate, Estimator
    from nbannot.record.run import Run
    from nbannot.tools.frames import Frame

COLUMNS = ("run", "name", "estimate", "low", "high", "se", "sign", "differs", "reason")
LIMITS = (
    "Every run stands for itself here: intervals are those of the estimator, each as if there were no other run.",
    "The spread over the settings of this sweep is not the spread over all settings that could have been tried.",
)


@dataclass(frozen=True, repr=False)
class Multiverse(Finding):
    """The result of `multiverse`.

    Attributes
    ----------
    estimates
        One `Estimate` per run, in the order of the runs.
    gold
        The estimate from people's labels, if it was given; else None.
    """

    runs: tuple[Run, ...]
    names: tuple[str, ...]
    estimates: tuple[Estimate, ...]
    gold: Estimate | None
    notes: tuple[str, ...] = ()

    @property
    def known(self) -> list[Estimate]:
        """The estimates that exist."""
        return [one for one in self.estimates if not math.isnan(one.value)]

    @property
    def sign_flips(self) -> float:
        """Share of the runs whose estimate has the rarer sign; ``nan`` without estimates."""
        known = self.known
        positive = sum(one.value > 0 for one in known)
        return min(positive, len(known) - positive) / len(known) if known else math.nan

    @property
    def share_differs(self) -> float:
        """Share of the runs that lead to another conclusion than gold (or than most runs): see `frame`, ``differs``."""
        known = [self._differs(one) for one in self.known]
        return sum(map(bool, known)) / len(known) if known else math.nan

    @staticmethod
    def _says(one: Estimate) -> str:
        """Return what an estimate says: positive, negative, or not clear of 0; its sign where it has no interval."""
        if math.isnan(one.value):
            return "no number"
        if math.isnan(one.low):
            return "positive" if one.value > 0 else "negative" if one.value < 0 else "zero"
        return "positive" if one.low > 0 else "negative" if one.high < 0 else "not clear of 0"

    def _differs(self, one: Estimate) -> bool:
        return self._says(one) != self.conclusion

    @property
    def conclusion(self) -> str:
        """What gold says; without it, what most runs say."""
        if self.gold is not None:
            return self._says(self.gold)
        verdicts = [self._says(one) for one in self.known]
        return max(sorted(set(verdicts)), key=verdicts.count) if verdicts else "nothing"

    @property
    def frame(self) -> Frame:
        """One row per run: the settings in which they differ, estimate, interval, sign, whether it differs, reason."""
        from nbannot.inference.grid import differing_settings

        settings = differing_settings(self.runs)
        rows = [
            {
                "run": run.run_id,
                "name": name,
                "estimate": one.value,
                "low": one.low,
                "high": one.high,
                "se": one.se,
                "sign": None if math.isnan(one.value) else (one.value > 0) - (one.value < 0),
                "differs": None if math.isnan(one.value) else self._differs(one),
                "reason": one.reason,
                **{setting: run.config.get(setting) for setting in settings},
            }
            for run, name, one in zip(self.runs, self.names, self.estimates, strict=True)
        ]
        return make_frame(rows, (*COLUMNS, *settings))

    def forests(self) -> list[Drawn]:
        """Return the specification curve: every run's estimate, in the order of its size, gold on top."""
        rows = [
            (name, one.value, one.low, one.high)
            for name, one in zip(self.names, self.estimates, strict=True)
            if not math.isnan(one.value)
        ]
        rows.sort(key=lambda row: row[1])
        first = [] if self.gold is None else [("gold", self.gold.value, self.gold.low, self.gold.high)]
        return [("estimate", [*first, *rows])] if rows else []

    def blocks(self) -> list[Block]:
        """Return the page: does the finding hold, and under which settings it does not."""
        known = self.known
        rows: list[Row] = [
            [
                Cell(name, "strong" if not math.isnan(one.value) and self._differs(one) else "plain"),
                plain(one.value, 3),
                interval(one.low, one.high, 3),
                one.reason or self._says(one),
            ]
            for name, one in sorted(
                zip(self.names, self.estimates, strict=True),
                key=lambda pair: (math.isnan(pair[1].value), pair[1].value),
            )
        ]
        than = "gold" if self.gold is not None else "most runs"
        sentence = "No run has an estimate."
        if known:
            values = sorted(one.value for one in known)
            middle = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
            sentence = (
                f"From {plain(values[0], 3)} to {plain(values[-1], 3)} over {plural(len(known), 'run')} (median "
                f"{plain(middle, 3)}); {share(self.share_differs, 1)} conclude otherwise than {than} "
                f"({self.conclusion}), {share(self.sign_flips, 1)} have the rarer sign."
            )
            silent = plural(len(self.runs) - len(known), "run")
            if len(known) < len(self.runs):
                sentence += f" {silent} of {len(self.runs)} gave no estimate, and may be those that differ."
        return [
            Heading("The same estimate under every run", 1, plural(len(self.runs), "run")),
            Para(sentence, "notice"),
            Grid(["run", "estimate", "95% interval", "says"], rows, "lril"),
            Bullets((*self.notes, *LIMITS), "quiet"),
        ]

    def __repr__(self) -> str:
        return f"<Multiverse of {len(self.runs)} runs: {self.sign_flips:.0%} sign flips>"


def multiverse(runs: Sequence[Run], estimator: Estimator, *, gold: Any = None) -> Multiverse:
    """Compute the user's own estimate under every run.

    Parameters
    ----------
    runs
        Runs of one task under different settings.
    estimator
        A function of a `Run` that returns a number, ``(value, se)``, ``(value, low, high)`` or a mapping with
        ``value``, ``low``, ``high`` or ``se``. Where it raises an error for a run, that run keeps its row and says why.
    gold
        The estimate from people's labels, in one of these forms: what the runs are held against.

    Raises
    ------
    ScoringError
        If something else than runs is given, or the estimator returns what is no estimate.
    """
    load("numpy")
    from nbannot.inference.grid import Estimate, given_runs, read_estimate

    items = given_runs(runs, 1)
    if not callable(estimator):
        raise ScoringError(
            f"an estimator is a function of a run that returns a number. Got {estimator!r}.\n"
            "  Write multiverse(runs, lambda run: ...)."
        )
    estimates = []
    for run in items:
        try:
            answer = estimator(run)
        except NbannotError as error:
            estimates.append(Estimate(math.nan, reason=str(error).splitlines()[0]))
        except Exception as error:  # noqa: BLE001 - the user's function; its run keeps its row and says why
            estimates.append(Estimate(math.nan, reason=f"{type(error).__name__}: {error}"))
        else:
            estimates.append(read_estimate(answer))
    names = names_of(items)
    return Multiverse(
        tuple(items), tuple(names[run.run_id] for run in items), tuple(estimates),
        None if gold is None else read_estimate(gold), tuple(looks_at(*(run.task for run in items))),
    )  # fmt: skip
