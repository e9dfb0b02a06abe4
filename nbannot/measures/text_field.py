"""The numbers of a textbox field: similarity per text, presence of an answer, intervals that resample texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nbannot.measures import classification as cls
from nbannot.measures import text as similarity
from nbannot.measures.accounting import Account, FieldData, account, units_of
from nbannot.measures.classification import ratio
from nbannot.measures.intervals import Intervals, Settings
from nbannot.measures.resample import sample_rows
from nbannot.measures.result import NAN, BoolArray, FieldScore, FloatArray, Result
from nbannot.measures.span_metrics import presence_counts, presence_label_counts
from nbannot.measures.text_extras import EXTRA_NAMES, TextExtras, extra_scores

TEXT_NAMES = ("percentage_agreement", "norm_levenshtein", "bleu", *EXTRA_NAMES, "coverage", "presence_f1")
"""The metrics of the outputs contract, in its order."""
LONG_TOKEN = 15
"""Characters per token from which a script is taken to have no spaces."""
CONVENTIONS = (
    "strict (missing=0, one side empty=0) · both empty left out of the means · NFC code points · "
    "BLEU: mean of sentence BLEU with effective order"
)


@dataclass(frozen=True)
class TextRows:
    """The texts with a human label, to which the field applies.

    Attributes
    ----------
    human, model : the texts after NFC; ``""`` for no text and for no valid answer.
    answered : (n,) False without a valid answer.
    has_human, has_model : (n,) True where there is a text (white space alone is none).
    """

    human: list[str]
    model: list[str]
    answered: BoolArray
    has_human: BoolArray
    has_model: BoolArray

    @classmethod
    def of(cls, data: FieldData, rows: Account) -> TextRows:
        """Return the reference rows of `data`."""
        used = np.flatnonzero(rows.reference).tolist()
        answered = rows.model[rows.reference] >= 0
        human = [similarity.nfc(str(data.human[row])) for row in used]
        model = [
            similarity.nfc(str(data.model[row])) if ok else ""
            for row, ok in zip(used, answered.tolist(), strict=True)
        ]
        has_human, has_model = (
            np.fromiter((bool(text.strip()) for text in side), dtype=bool, count=len(side))
            for side in (human, model)
        )
        return cls(human, model, answered, has_human, has_model)

    @property
    def compared(self) -> BoolArray:
        """(n,) True where both sides have a text."""
        return self.has_human & self.has_model

    @property
    def scored(self) -> BoolArray:
        """(n,) False where the human and the model both say that there is nothing."""
        return self.has_human | self.has_model | ~self.answered

    def pairs(self) -> tuple[list[str], list[str]]:
        """Return the texts of the rows where both sides have one."""
        rows = np.flatnonzero(self.compared).tolist()
        return [self.human[row] for row in rows], [self.model[row] for row in rows]


@dataclass
class TextStatistics:
    """Additive statistics per text, by name, and what is blank and why.

    Attributes
    ----------
    columns : name -> (n,) statistic; a similarity is 0 where only one side has a text.
    means : the names that are averaged over the scored texts.
    reasons : metric -> why it is blank.
    signature : what decides the numbers.
    """

    columns: dict[str, FloatArray]
    means: list[str]
    reasons: dict[str, str] = field(default_factory=dict)
    signature: dict[str, Any] = field(default_factory=dict)


def score_text(
    data: FieldData, settings: Settings, extras: bool | TextExtras = False, bleu_tokenize: str = "13a"
) -> FieldScore:
    """Return all numbers of a textbox field."""
    rows = account(data)
    texts = TextRows.of(data, rows)
    stats = text_statistics(texts, extras, bleu_tokenize)
    names = list(stats.columns)
    sample = sample_rows(
        np.column_stack([stats.columns[name] for name in names]),
        *units_of(data, rows.reference),
        settings.seed,
    )
    chance = _chances(texts, bleu_tokenize, settings.seed)

    def evaluate(totals: FloatArray) -> Mapping[str, FloatArray]:
        return _evaluate({name: totals[..., i] for i, name in enumerate(names)}, stats.means, chance)

    blank = Result(NAN, n=len(texts.human), n_answered=rows.counts["scored"])
    bare = Intervals(sample, evaluate, settings, blank)
    whole = replace(bare, blank=replace(blank, conventions=f"{CONVENTIONS} · {bare.line()}"))
    scored = texts.scored
    means = replace(
        whole,
        blank=replace(whole.blank, n=int(scored.sum()), n_answered=int((scored & texts.answered).sum())),
    )
    extra_names = ["bleu_corpus", "norm_levenshtein_answered", "bleu_answered"]
    extra_names += ["norm_levenshtein_chance_corrected", "bleu_chance_corrected"]
    both_empty = len(scored) - int(scored.sum())
    counts = rows.counts | {
        "both_empty": both_empty,
        "human_only": int((texts.has_human & ~texts.has_model & texts.answered).sum()),
        "model_only": int((~texts.has_human & texts.has_model).sum()),
        "both": int(texts.compared.sum()),
        "unanswered": int((~texts.answered).sum()),
    }
    return FieldScore(
        results={name: _result(whole, means, name, stats.reasons) for name in TEXT_NAMES},
        extra={
            name: _result(whole, means, name, {})
            for name in (*extra_names, "presence_agreement", "presence_kappa")
        },
        per_class=[],
        counts=counts,
        missing_by_reason=rows.missing_by_reason,
        confusion=None,
        notes=_notes(texts, stats.columns["bleu_1"], counts, whole, bleu_tokenize),
        conventions=whole.blank.conventions,
        signature=stats.signature | _bleu_signatures(bleu_tokenize),
    )


def text_statistics(
    texts: TextRows, extras: bool | TextExtras = False, bleu_tokenize: str = "13a"
) -> TextStatistics:
    """Return the additive statistics of each text."""
    human, model = texts.pairs()
    compared, scored = texts.compared, texts.scored
    counts = similarity.bleu_statistics(texts.human, texts.model, bleu_tokenize)
    bleu = similarity.bleu(counts, effective_order=True)
    equal = [one.strip() == two.strip() for one, two in zip(human, model, strict=True)]
    values = {
        "percentage_agreement": np.array(equal, dtype=float),
        "norm_levenshtein": similarity.levenshtein_similarities(human, model),
        "bleu": bleu[compared],
    }
    options = extras if isinstance(extras, TextExtras) else TextExtras(fetch=False)
    more = extra_scores(human, model, options if extras else TextExtras(metrics=()))
    values |= more.values
    columns = {name: _spread(value, compared) for name, value in values.items()}
    columns |= {
        "n": scored.astype(float),
        "n_answered": (scored & texts.answered).astype(float),
        "n_compared": compared.astype(float),
    }
    columns |= presence_counts(texts.has_human, texts.has_model, texts.answered)
    columns |= {f"bleu_{i}": counts[:, i] for i in range(counts.shape[1])}
    return TextStatistics(columns, list(values), more.reasons, more.signature)


def _spread(values: FloatArray, compared: BoolArray) -> FloatArray:
    whole = np.zeros(len(compared))
    whole[compared] = values
    return whole


def _evaluate(
    column: Mapping[str, FloatArray], means: Sequence[str], chance: Mapping[str, float]
) -> dict[str, FloatArray]:
    """Return every text metric of totals by name."""
    values = {name: ratio(column[name], column["n"]) for name in means}
    parts = np.stack([column[f"bleu_{i}"] for i in range(similarity.BLEU_WIDTH)], axis=-1)
    values["bleu_corpus"] = np.where(column["n"] > 0, similarity.bleu(parts, effective_order=False), np.nan)
    for name in ("norm_levenshtein", "bleu"):
        scale = 100.0 if name == "bleu" else 1.0
        values[f"{name}_answered"] = ratio(column[name], column["n_answered"])
        matched = ratio(column[name], column["n_compared"]) / scale
        values[f"{name}_chance_corrected"] = similarity.chance_corrected(matched, chance[name])
    presence = presence_label_counts(column)
    return values | {
        "coverage": cls.coverage(presence),
        "presence_f1": cls.f1_per_class(presence)[..., 0],
        "presence_agreement": cls.accuracy(presence),
        "presence_kappa": cls.cohen_kappa(presence),
    }


def _chances(texts: TextRows, bleu_tokenize: str, seed: int) -> dict[str, float]:
    """Return the similarity of texts paired at random, among the rows where both sides have a text."""
    human, model = texts.pairs()

    def bleu_share(one: Sequence[str], two: Sequence[str]) -> FloatArray:
        counts = similarity.bleu_statistics(one, two, bleu_tokenize)
        return similarity.bleu(counts, effective_order=True) / 100

    measures = {"norm_levenshtein": similarity.levenshtein_similarities, "bleu": bleu_share}
    return {
        name: similarity.chance_similarity(human, model, measure, seed) for name, measure in measures.items()
    }


def _result(whole: Intervals, means: Intervals, name: str, reasons: Mapping[str, str]) -> Result:
    over_all = name in ("coverage", "presence_f1", "presence_agreement", "presence_kappa")
    intervals = whole if over_all else means
    if name in reasons:
        return intervals.undefined(reasons[name])
    n = intervals.blank.n
    proportion_of = n if name in ("coverage", "presence_agreement", "percentage_agreement") else None
    reason = "no human labels" if whole.blank.n == 0 else "no text on either side"
    if name.endswith("chance_corrected"):
        reason = "no text on both sides, or no variation"
    elif name.endswith("answered") and n:
        reason = "no answer"
    elif name == "presence_kappa" and n:
        reason = "no variation"
    bounds = (-1.0, 1.0) if name.endswith(("kappa", "corrected")) else (0.0, 1.0)
    if name in ("bleu", "bleu_answered", "bleu_corpus"):
        bounds = (0.0, 100.0)
    return intervals.result(name, proportion_of=proportion_of, bounds=bounds, if_undefined=reason)


def _bleu_signatures(tokenize: str) -> dict[str, str]:
    return {
        "bleu": similarity.bleu_signature(tokenize),
        "bleu_corpus": similarity.bleu_signature(tokenize, sentence=False),
    }


def _notes(
    texts: TextRows, n_tokens: FloatArray, counts: dict[str, int], intervals: Intervals, tokenize: str
) -> list[str]:
    """Return guidance and warnings; `n_tokens` are the tokens of each human text."""
    notes = [
        "Similarity is a diagnostic, not a ground truth: short extracts can mean the same in other words."
    ]
    if texts.has_human.any():
        lengths = np.fromiter(map(len, texts.human), dtype=float, count=len(texts.human))[texts.has_human]
        tokens = n_tokens[texts.has_human]
        median = float(np.median(tokens))
        if tokenize == "13a" and np.median(lengths / np.maximum(tokens, 1)) > LONG_TOKEN:
            notes.append(
                "The texts look like a script without spaces, where BLEU needs another tokeniser "
                "(bleu_tokenize: zh, ja-mecab, ko-mecab or flores200)."
            )
        elif median < similarity.SHORT_TEXT:
            notes.append(
                f"BLEU is unsuitable here: half of the human texts have {median:g} tokens or fewer "
                f"(it needs about {similarity.SHORT_TEXT})."
            )
    if counts["both_empty"]:
        share = counts["both_empty"] / len(texts.human)
        notes.append(
            f"In {share:.0%} of the texts neither side wrote anything; they count in the presence "
            "agreement only."
        )
    if intervals.few_units:
        notes.append(f"{intervals.few_units.capitalize()}.")
    return notes
