"""Verdicts: what a comparison says, in plain words; and what each run took."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from nbannot.comparing.align import Compared
from nbannot.comparing.coder import Coder
from nbannot.comparing.took import energy_of, seconds_of, tokens_of
from nbannot.errors import listed
from nbannot.measures.accounting import LABEL_TYPES, FieldData, account
from nbannot.measures.label_report import variation_words
from nbannot.measures.missing_answers import WORDS, answered_rows
from nbannot.measures.pair_result import ManyResult, PairResult
from nbannot.measures.paired_statistics import LOWER_IS_BETTER
from nbannot.measures.result import UNRELIABLE
from nbannot.page.digits import MINUS, decimals
from nbannot.report.words import metric_words, plural, sampling_refused
from nbannot.study.field import Field

ADJUSTMENT_WORDS = {"holm": "Holm", "bh": "Benjamini-Hochberg"}
NOT_APART = "Not distinguishable"
ONE_LABEL_WORDS = "People used one label only: these texts cannot say which is better."
SURE = 0.05
"""A difference is called one where its p, adjusted for the number of comparisons, lies below this."""


class ComparedRuns(Protocol):
    """What is said of a comparison is read from these parts of it; see `nbannot.comparing.found.Comparison`."""

    @property
    def runs(self) -> tuple[Compared, ...]: ...
    @property
    def results(self) -> Mapping[tuple[str, str], ManyResult]: ...
    @property
    def both_answered(self) -> Mapping[tuple[str, str], Mapping[tuple[str, str], PairResult]]: ...
    @property
    def corrected(self) -> Mapping[tuple[str, str], float]: ...
    @property
    def data(self) -> Mapping[str, Sequence[FieldData]]: ...
    @property
    def families(self) -> Mapping[str, int]: ...
    @property
    def adjust(self) -> str: ...
    @property
    def margin(self) -> float | None: ...
    @property
    def settings(self) -> Mapping[str, Any] | None: ...
    @property
    def names(self) -> dict[str, str]: ...
    @property
    def answered(self) -> dict[str, tuple[int, ...]]: ...
    def field(self, column: str) -> Field: ...
    def not_inferior(self, pair: PairResult) -> tuple[bool | None, bool | None]: ...


def verdict(comparison: ComparedRuns, key: tuple[str, str]) -> str:
    """Return what a comparison says about one field and metric, in plain words."""
    return " ".join(verdict_sentences(comparison, key))


def verdict_sentences(comparison: ComparedRuns, key: tuple[str, str]) -> list[str]:
    """Return the same, sentence by sentence; the first says which run is best, or that none can be told to be."""
    result = comparison.results[key]
    n = result.pairs[0].n
    start = f"{comparison.field(key[0]).name}, {metric_words(key[1])}"
    if not n:
        return [f"{start}: no text with a human label, nothing to compare."]
    if result.best is None:
        return [f"{start} on {plural(n, 'text')}: not defined for any run."]
    words = _Words(comparison, key, f"{start} on {plural(n, 'text')}{_missing_counted(comparison, key[0])}")
    if result.pairs[0].one_label:
        return [f"{words.start}: {listed(map(words.valued, range(len(result.runs))), 8)}.", ONE_LABEL_WORDS]
    sentences = words.of_two() if len(result.runs) == 2 else [*words.of_many(), *words.chosen(key)]
    parts = [*sentences, *words.where_both_answered()]
    return [sentence for sentence in parts if sentence]


def _missing_counted(comparison: ComparedRuns, column: str) -> str:
    """Return how many texts each run answered and what the others count as; nothing where none is missing."""
    n = int(answered_rows(comparison.data[column][0])[0].sum())
    answered = comparison.answered[column]
    if min(answered) == n:
        return ""
    names = list(comparison.names.values())
    if len(names) == 2:
        numbers = " and ".join(f"{name} {of:,}" for name, of in zip(names, answered, strict=True))
    else:
        fewest = names[answered.index(min(answered))]
        numbers = f"the runs {min(answered):,} (fewest: {fewest}) to {max(answered):,}"
    return f" (answered: {numbers}; each missing answer counts {WORDS[comparison.field(column).type]})"


class _Words:
    """The sentences about one field and metric; numbers with the decimals that the texts support."""

    def __init__(self, comparison: ComparedRuns, key: tuple[str, str], start: str) -> None:
        self.comparison, self.key, self.start = comparison, key, start
        found = self.found = comparison.results[key]
        self.metric = found.metric
        self.family = comparison.families[key[0]]
        self.digits = decimals(found.pairs[0].n) - self.metric.startswith("bleu")
        self.names = list(comparison.names.values())

    def number(self, value: float) -> str:
        shown = f"{value:.{self.digits}f}"
        return (shown.lstrip("-") if float(shown) == 0 else shown).replace("-", MINUS)

    def signed(self, value: float) -> str:
        shown = self.number(value)
        return shown if shown.startswith(MINUS) or float(shown) == 0 else f"+{shown}"

    def valued(self, index: int) -> str:
        value = self.found.values[index]
        return f"{self.names[index]} ({self.signed(value) if self.metric == 'bias' else self.number(value)})"

    # Two runs

    def of_two(self) -> list[str]:
        pair = self.found.pairs[0]
        if math.isnan(pair.diff):
            undefined = [self.names[i] for i, value in enumerate(self.found.values) if math.isnan(value)]
            return [
                f"{self.start}: no difference can be computed; it is not defined for {listed(undefined)}."
            ]
        if not pair.n_discordant:
            return [
                f"{self.start}: {self.names[0]} and {self.names[1]} are the same on every text "
                f"({self.number(pair.value_a)})."
            ]
        lead = 0 if pair.diff >= 0 else 1
        if self.metric in LOWER_IS_BETTER:
            lead = 1 - lead
        return [self._difference(pair, lead), *self._margin_of_two(pair, lead)]

    def _difference(self, pair: PairResult, lead: int) -> str:
        other = 1 - lead
        values = [self.signed(v) if self.metric == "bias" else self.number(v) for v in self.found.values]
        numbers = [f"{values[lead]} against {values[other]}"]
        if not math.isnan(pair.ci_low):
            numbers.append(self._interval(pair, lead))
        numbers.append(self._p(pair))
        one, two = self.names[lead], self.names[other]
        if pair.p_adjusted < SURE:
            by = self.number(abs(pair.diff))
            decide = f"{pair.n_discordant:,} texts decide" if pair.n_discordant > 1 else "1 text decides"
            told = f"{self.start}: {one} {self._better()} {two} by {by} ({'; '.join([*numbers, decide])})."
            return f"{told} {self._doubted([pair])}".rstrip()
        sentence = f"{self.start}: {one} and {two} cannot be told apart ({'; '.join(numbers)})."
        if math.isnan(pair.mdd):
            return f"{sentence} That is not evidence that they are equal."
        return (
            f"{sentence} That is not evidence that they are equal: "
            f"with this many texts, only a difference of about {self.number(pair.mdd)} or more would show."
        )

    def _interval(self, pair: PairResult, lead: int) -> str:
        words = "95% interval of the difference" + (", adjusted as p is," if self.family > 1 else "")
        return f"{words} {' to '.join(map(self.signed, self._lead_by(pair, lead)))}"

    def _lead_by(self, pair: PairResult, lead: int) -> tuple[float, float]:
        """Return the limits of how far the leading run is ahead."""
        if (lead == 0) != (self.metric in LOWER_IS_BETTER):
            return pair.ci_low, pair.ci_high
        return -pair.ci_high, -pair.ci_low

    def _better(self) -> str:
        if self.metric == "bias":
            return "has a higher bias than"
        return "is lower (better) than" if self.metric in LOWER_IS_BETTER else "is higher than"

    def _p(self, pair: PairResult) -> str:
        p = pair.p_adjusted
        digits = 3 if (round(p, 3) < SURE) == (p < SURE) else 4
        shown = f"p = {p:.{digits}f}" if p >= 0.001 else "p < 0.001"
        family = self.family
        how = ADJUSTMENT_WORDS[self.comparison.adjust]
        return f"{shown} after {how} over {family} comparisons" if family > 1 else shown

    def _margin_of_two(self, pair: PairResult, lead: int) -> list[str]:
        margin = self.comparison.margin
        shown = self.comparison.not_inferior(pair)[1 - lead]
        worse, better = self.names[1 - lead], self.names[lead]
        if margin is not None and shown is None and pair.doubt:
            return [
                f"Whether {worse} is at most {margin:g} worse than {better} is not to be told: {pair.doubt}."
            ]
        if margin is None or shown is None:
            return []
        if shown:
            return [f"{worse} is shown to be at most {margin:g} worse than {better}."]
        return [
            f"It is not shown that {worse} is at most {margin:g} worse than {better}: "
            f"it may be {self.number(self._lead_by(pair, lead)[1])} worse."
        ]

    # More than two

    def of_many(self) -> list[str]:
        values, best = self.found.values, self.found.best
        assert best is not None
        top = [i for i, value in enumerate(values) if value == values[best]]
        is_what = {"bias": "closest to 0", "mae": "best (lowest)", "invalid_rate": "best (lowest)"}.get(
            self.metric, "best"
        )
        verb = "is" if len(top) == 1 else "are"
        sentences = [f"{self.start}: {is_what} {verb} {listed(map(self.valued, top))}."]
        same = [i for i in self.found.not_distinguishable if i not in top]
        undefined = [i for i, value in enumerate(values) if math.isnan(value)]
        pronoun = "it" if len(top) == 1 else "them"
        if same:
            sentences.append(f"{NOT_APART} from {pronoun}: {listed(map(self.valued, same), 8)}.")
        worse = [i for i in range(len(values)) if i not in (*self.found.not_distinguishable, *undefined)]
        if worse:
            every = "" if same else ", every other run"
            worse.sort(key=lambda i: values[i], reverse=self.metric not in (*LOWER_IS_BETTER, "bias"))
            named = listed(map(self.valued, worse), 8)
            what = "Farther from 0 than" if self.metric == "bias" else "Worse than"
            sentences.append(f"{what} {pronoun}{every}: {named} (p < {SURE:g} after {self._adjustment()}).")
            sentences += filter(None, [self._doubted(self.found.to_best)])
        if len(self.found.not_distinguishable) > 1:
            sentences.append(self._cheapest(self.found.not_distinguishable))
        if undefined:
            sentences.append(f"Not defined for {listed(self.names[i] for i in undefined)}.")
        return [*sentences, *self._margin_of_many()]

    def _doubted(self, pairs: Sequence[PairResult]) -> str:
        """Return the sentence that takes back what too few clusters, or texts with weight, cannot carry."""
        doubt = next((pair.doubt for pair in pairs if pair.doubt), "")
        return f"Do not rely on that: {doubt}." if doubt else ""

    def _adjustment(self) -> str:
        return f"{ADJUSTMENT_WORDS[self.comparison.adjust]} over {self.family} comparisons"

    def where_both_answered(self) -> list[str]:
        """Return how runs stand on the texts that both answered, where answers are missing."""
        pairs = self.found.pairs if len(self.found.runs) == 2 else self.found.to_best
        both = self.comparison.both_answered[self.key]
        sentences = []
        for pair in pairs:
            names = (pair.run_a, pair.run_b)
            there = both.get(names) or both.get(names[::-1])
            if there is None or math.isnan(pair.diff):
                continue
            if there.run_a != pair.run_a:
                names = names[::-1]
            sentences.append(
                self._there(there, names, ahead=pair.run_a if self._ahead(pair) > 0 else pair.run_b)
            )
        if len(self.found.runs) > 2:
            sentences = [one for one in sentences if one.endswith("did not answer.")]
        return sentences

    def _ahead(self, pair: PairResult) -> float:
        """Return by how much the first run of a pair is better."""
        if self.metric == "bias":
            return abs(pair.value_b) - abs(pair.value_a)
        return -pair.diff if self.metric in LOWER_IS_BETTER else pair.diff

    def _there(self, there: PairResult, names: tuple[str, str], ahead: str) -> str:
        one, two = (self.comparison.names[name] for name in names)
        start = f"On the {plural(there.n, 'text')} that both {one} and {two} answered"
        if math.isnan(there.diff):
            return f"{start} no difference can be computed."
        values = f"{self.number(there.value_a)} against {self.number(there.value_b)}"
        if not there.n_discordant:
            return f"{start} they are the same ({self.number(there.value_a)})."
        p = self._p(there)
        if self._ahead(there) == 0 or (self._ahead(there) > 0) == (ahead == names[0]):
            return f"{start}: {values} ({p})."
        return (
            f"{start} it is the other way round: {values} ({p}). Which is better depends on the texts that one of them "
            "did not answer."
        )

    def _margin_of_many(self) -> list[str]:
        margin = self.comparison.margin
        shown: dict[bool | None, list[str]] = {True: [], False: [], None: []}
        for pair in self.found.to_best:
            shown[self.comparison.not_inferior(pair)[1]].append(self.comparison.names[pair.run_b])
        doubt = next((pair.doubt for pair in self.found.to_best if pair.doubt), "")
        if margin is None or not (shown[True] or shown[False] or doubt):
            return []
        sentences = []
        if doubt and shown[None]:
            sentences.append(
                f"Whether at most {margin:g} worse is not to be told of {listed(shown[None])}: {doubt}."
            )
        if shown[True]:
            sentences.append(f"Shown to be at most {margin:g} worse than the best: {listed(shown[True])}.")
        if shown[False]:
            sentences.append(f"Not shown to be at most {margin:g} worse: {listed(shown[False])}.")
        return sentences

    def chosen(self, key: tuple[str, str]) -> list[str]:
        corrected = self.comparison.corrected[key]
        if math.isnan(corrected):
            return []
        return [
            "Chosen on these same texts, its value is too favourable on average; "
            f"corrected for the choice: {self.number(corrected)}."
        ]

    def _cheapest(self, indices: Sequence[int]) -> str:
        """Return which of the runs that cannot be told from the best takes least; nothing where several do."""
        prices = []
        costs: list[tuple[str, Callable[[Compared], float | None]]] = [
            ("model time", seconds_of), ("tokens", tokens_of), ("energy", energy_of)
        ]  # fmt: skip
        for what, cost in costs:
            known = {i: cost(self.comparison.runs[i]) for i in indices}
            spent = sorted(value for value in known.values() if value is not None)
            if len(spent) == len(known) > 1 and spent[0] < spent[1]:
                prices.append(f"least {what}: {next(self.names[i] for i in known if known[i] == spent[0])}")
        return f"Among these, {'; '.join(prices)}." if prices else ""


def _without_variation(comparison: ComparedRuns) -> list[str]:
    """Return per field what the labels of people on the compared texts leave open."""
    notes = []
    for column, (data, *_) in comparison.data.items():
        if data.type not in LABEL_TYPES:
            continue
        rows = account(data)
        support = np.bincount(rows.human[rows.reference], minlength=len(data.labels)).tolist()
        words = variation_words([(str(label), n) for label, n in zip(data.labels, support, strict=True)])
        notes += [f"{comparison.field(column).name}: {words}"] if words else []
    return notes


def _without_effect(comparison: ComparedRuns) -> list[str]:
    """Return per run which setting, of those in which the runs differ, its model did not take."""
    configs = [getattr(run, "config", None) or {} for run in comparison.runs]
    notes = []
    for name in ("temperature", "top_p", "top_k", "seed"):
        differs = len({repr(config.get(name)) for config in configs if config}) > 1
        deaf = [
            comparison.names[run.run_id]
            for run, config in zip(comparison.runs, configs, strict=True)
            if name in sampling_refused(config)
        ]
        if differs and deaf:
            notes.append(f"{name}: {listed(deaf)} did not take it, so that it makes no difference there.")
    return notes


def _without_answers(comparison: ComparedRuns) -> list[str]:
    notes = []
    for column, of_runs in comparison.data.items():
        for run, data in zip(comparison.runs, of_runs, strict=True):
            counts = account(data).counts
            if counts["scored"] == 0 and counts["missing"] + counts["missed_gate"]:
                notes.append(
                    f"{comparison.field(column).name}: {comparison.names[run.run_id]} has no valid answer on these "
                    "texts: its value is that of wrong answers only."
                )
    return notes


def notes_on(comparison: ComparedRuns) -> list[str]:
    """Return what else a reader of a comparison should know, one sentence each."""
    notes = [*_without_variation(comparison), *_without_answers(comparison), *_without_effect(comparison)]
    for (column, metric), result in comparison.results.items():
        rare = result.pairs[0].reason.rpartition(f"{UNRELIABLE}: ")[2]
        if rare.startswith(("class ", "option ")):
            notes.append(
                f"{comparison.field(column).name}, {metric_words(metric)}: intervals unreliable, too few texts of some "
                f"labels ({rare})."
            )
        q = result.cochran
        if q is not None and not math.isnan(q.p):
            p = f"p = {q.p:.3f}" if q.p >= 0.001 else "p < 0.001"
            notes.append(
                f"{comparison.field(column).name}, {metric_words(metric)}: Cochran's Q over all {len(result.runs)} "
                f"runs = {q.statistic:.2f}, df = {q.df}, {p}."
            )
    notes += _of_people(comparison)
    lock = comparison.runs[0].task.split_lock
    if lock is not None and lock.opened:
        notes.append(
            f"On a locked split: {lock.words}. Choosing by these numbers makes the test half a dev half."
        )
    if comparison.margin is not None:
        notes.append(
            f"Margin {comparison.margin:g}: a run is shown to be good enough where the 95% interval of the difference "
            "lies within it. That holds only if the margin was declared before looking."
        )
    if max(comparison.families.values(), default=0) > 1:
        notes.append(
            "p values and intervals of differences are adjusted for the number of comparisons: an interval leaves out "
            "0 exactly where the adjusted p is below .05."
        )
    notes += _too_few_resamples(comparison)
    if comparison.adjust == "bh":
        notes.append(
            "Benjamini-Hochberg keeps the share of false findings low, not the chance of any: to explore."
        )
    return notes


def _of_people(comparison: ComparedRuns) -> list[str]:
    """Return which texts count where people are compared, and what was left out of anybody's table."""
    coders = [run for run in comparison.runs if isinstance(run, Coder)]
    people = [coder for coder in coders if coder.by_person]
    notes = []
    if people:
        names = " and ".join(coder.run_id for coder in people) if len(people) < 3 else "all coders"
        of = max(coder.n_given for coder in people)
        counts = [
            f"{int(answered_rows(runs[0])[0].sum()):,} of {of:,} in {comparison.field(column).name}"
            for column, runs in comparison.data.items()
        ]
        notes.append(f"Only texts that {names} coded count: {listed(counts)}.")
    return [*notes, *(f"{coder.run_id}: {coder.left_out}, left out." for coder in coders if coder.left_out)]


def _too_few_resamples(comparison: ComparedRuns) -> list[str]:
    """Return the warning that a randomisation of so few draws cannot tell anything apart in so large a family."""
    drawn = int((comparison.settings or {}).get("n_resamples", 0))
    largest = max(comparison.families.values(), default=0)
    by_chance = any(
        pair.p_method == "approximate randomisation" for r in comparison.results.values() for pair in r.pairs
    )
    if not by_chance or not drawn or largest / (drawn + 1) < SURE:
        return []
    return [
        f"No p value of {drawn:,} random exchanges can fall below .05 after adjusting over {largest:,} comparisons: "
        f"raise n_resamples above {20 * largest:,}, or compare fewer runs."
    ]
