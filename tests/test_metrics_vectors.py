"""The reference values that were handed to the project, through the public functions of the metrics package.

Every id of both files is either checked by a function below or listed in `LEFT` with the reason.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbannot.measures import agreement, calibration, ordinal, significance, spans, text
from nbannot.measures import classification as cls
from nbannot.measures.accounting import FieldData
from nbannot.measures.agreement import CoderTotals, value_counts
from nbannot.measures.field import score_field
from nbannot.measures.intervals import Intervals, Settings, standard_error
from nbannot.measures.paired import compare_two
from nbannot.measures.resample import bootstrap, percentile_limits, sample_cells, wilson
from nbannot.measures.text_extras import TextExtras, extra_scores

DATA = Path(__file__).parent / "data"

LEFT = {
    "ci.bca_macro_f1": "BCa intervals are not offered",
    "fleiss_1971_categorywise": "Fleiss' kappa of single categories is not offered",
    "span.seqeval": "BIO tags cannot hold overlapping spans; the specification says not needed",
    "bias.stuart_maxwell": "section 6: label order",
    "bias.rstd": "section 6: label order",
    "bias.position_chi2": "section 6: label order",
    "plan.n_for_width": "tests/test_inference_vectors.py",
    "plan.n_for_kappa": "tests/test_inference_vectors.py",
    "plan.ppi": "tests/test_inference_vectors.py",
    "alt.all_identical": "tests/test_inference_vectors.py",
    "alt.eps0_identical": "tests/test_inference_vectors.py",
    "prev.worked": "tests/test_inference_vectors.py",
    "prev.poststrat_multiclass": "tests/test_inference_vectors.py",
    "ds.small": "section 7: Dawid-Skene",
    "energy.worked": "section 8: energy",
    "vote.neff": "section 6: voting",
    "vote.majority": "section 6: voting",
    "shrout_fleiss_1979": "intraclass correlation is not a metric of the specification",
}

CHECKS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {}


def checks(*ids: str):
    """Register a function that returns our values for the expected keys of these vectors."""

    def register(function):
        CHECKS.update(dict.fromkeys(ids, function))
        return function

    return register


def _vectors() -> list[dict[str, Any]]:
    path = DATA / "stats_vectors.json"
    return json.loads(path.read_text(encoding="utf-8"))["vectors"]


def _cases() -> list[dict[str, Any]]:
    path = DATA / "reference_values_given.json"
    return json.loads(path.read_text(encoding="utf-8"))["cases"]


VECTORS = {case["id"]: case for case in _vectors()}
CASES = {case["id"]: case for case in _cases()}


def label_score(human, model, labels, kind="dropdown"):
    data = FieldData(kind, tuple(labels), list(human), list(model))
    found = score_field(data, n_resamples=100)
    values = {name: result.value for name, result in (found.results | found.extra).items()}
    return values | {"per_class": {row["label"]: row for row in found.per_class}}


def squares(table) -> cls.LabelCounts:
    table = np.asarray(table, dtype=float)
    return cls.label_counts(np.hstack([table, np.zeros((len(table), 1))]))


# --- stats_vectors.json ---------------------------------------------------------------------------


@checks("cls.basic")
def _(case):
    given = case["input"]
    found = label_score(given["human"], given["llm"], given["codebook"])
    return {
        "n_human": len(given["human"]),
        "n_answered": sum(label is not None for label in given["llm"]),
        "coverage": found["coverage"],
        "accuracy_strict": found["accuracy"],
        "accuracy_answered": found["accuracy_answered"],
        "per_class": {
            label: {key: row[key] for key in ("precision", "recall", "f1", "support")}
            for label, row in found["per_class"].items()
        },
        "macro_f1_supported_strict": found["f1_macro"],
        "macro_f1_answered_supported": found["f1_macro_answered"],
        "weighted_f1_strict": found["f1_weighted"],
        "micro_f1_strict_codebook": found["f1_micro"],
        "macro_precision_supported": found["precision_macro"],
        "macro_recall_supported": found["recall_macro"],
        "kappa_strict_none_as_category": found["cohen_kappa"],
        "kappa_answered": found["cohen_kappa_answered"],
        "mcc_strict": found["mcc"],
    }


@checks("cls.label_set_trap")
def _(case):
    given = case["input"]
    a, b = (label_score(given["human"], given[f"llm_{run}"], given["codebook"]) for run in "AB")
    return {
        "A_supported": a["f1_macro"],
        "B_supported": b["f1_macro"],
        "accuracy_A": a["accuracy"],
        "accuracy_B": b["accuracy"],
    }


@checks("cls.never_predicted")
def _(case):
    found = label_score(case["input"]["human"], case["input"]["llm"], "ab")
    b = found["per_class"]["b"]
    return {
        "precision_b_nan": b["precision"],
        "recall_b": b["recall"],
        "f1_b": b["f1"],
        "macro_f1": found["f1_macro"],
        "macro_precision_zero": found["precision_macro"],
    }


@checks("cls.f1_of_averages")
def _(case):
    return {"averaged_f1": label_score(case["input"]["human"], case["input"]["llm"], "ab")["f1_macro"]}


@checks("cls.conditional")
def _(case):
    rows = case["input"]["rows"]
    gates = {who: np.array([row[f"gate_{who}"] == "yes" for row in rows]) for who in ("human", "llm")}
    data = FieldData(
        "dropdown",
        ("anti", "neutral", "pro"),
        [row["stance_human"] for row in rows],
        [row["stance_llm"] for row in rows],
        human_applies=gates["human"],
        model_applies=gates["llm"],
    )
    found = score_field(data, n_resamples=100)
    extra = {name: result.value for name, result in found.extra.items()}
    return {
        "gate_accuracy": extra["gate_accuracy"],
        "gate_kappa": extra["gate_kappa"],
        "n_applicable": found.results["accuracy"].n,
        "n_both_applicable": found.counts["scored"] + found.counts["missing"],
        "n_spurious": found.counts["spurious"],
        "n_na_na": found.counts["na_na"],
        "accuracy_given_human_applicable": found.results["accuracy"].value,
        "macro_f1_given_human_applicable": found.results["f1_macro"].value,
        "accuracy_given_both_applicable": extra["accuracy_given_both"],
        "accuracy_end_to_end_NA_as_value": extra["accuracy_end_to_end"],
        "macro_f1_end_to_end_fields_only": extra["f1_macro_end_to_end"],
        "kappa_end_to_end": extra["cohen_kappa_end_to_end"],
    }


@checks("cls.multilabel")
def _(case):
    given = case["input"]
    data = FieldData("multiselect", tuple(given["codebook"]), given["human"], given["llm"])
    score = score_field(data, n_resamples=50)
    value = {name: result.value for name, result in score.results.items()}
    return {
        "subset_accuracy": value["percentage_agreement"],
        "micro_f1": value["f1_micro"],
        "macro_f1_supported": value["f1_macro"],
        "per_label_f1": [row["f1"] for row in score.per_class],
        "samples_jaccard_both_empty_1": value["jaccard"],
        "hamming_loss": value["hamming_loss"],
        "alpha_jaccard": value["alpha_jaccard"],
        "alpha_masi": value["krippendorff_alpha"],
        "nltk_alpha_masi": value["krippendorff_alpha"],
    }


@checks("kappa.wikipedia", "kappa.paradox_skewed", "kappa.paradox_balanced", "kappa.3x3")
def _(case):
    table = np.array(case["input"]["confusion"], dtype=float)
    c, n = squares(table), table.sum()
    error, pi = agreement.kappa_error(table), agreement.scott_pi(table)
    return {
        "po": cls.accuracy(c),
        "kappa": cls.cohen_kappa(c),
        "kappa_std_fce": error.se,
        "kappa_var0_std": error.se_null,
        "ci95": [error.ci_low, error.ci_high],
        "scott_pi": pi,
        "alpha_nominal": cls.alpha_nominal(c),
        "alpha_from_pi": 1 - (1 - pi) * (2 * n - 1) / (2 * n),
        "pabak": cls.pabak(c),
        "gwet_ac1": cls.gwet_ac1(c),
        "mcc": cls.mcc(c),
    }


@checks(
    "kappa.degenerate.both_constant_same",
    "kappa.degenerate.both_constant_diff",
    "kappa.degenerate.one_constant",
    "kappa.degenerate.empty",
)
def _(case):
    found = label_score(case["input"]["human"], case["input"]["llm"], (0, 1), "checkbox")
    return {"kappa": found["cohen_kappa"], "alpha_nominal": found["krippendorff_alpha"]}


@checks("alpha.krippendorff2011")
def _(case):
    columns = [[None if v == "NaN" else v for v in row] for row in case["input"]["data"]]
    return _alphas(list(zip(*columns, strict=True)), ("nominal", "ordinal", "interval", "ratio"))


def _alphas(units, levels) -> dict[str, float]:
    counts, values = value_counts(units)
    totals = CoderTotals.of_counts(counts)
    return {level: float(agreement.krippendorff_alpha(totals, level, values)) for level in levels}


@checks("alpha.singleton_units")
def _(case):
    units = [[None if v == "NaN" else v for v in pair] for pair in zip(*case["input"].values(), strict=True)]
    return {
        "nominal": _alphas(units, ["nominal"])["nominal"],
        "without_unit5": _alphas(units[:4], ["nominal"])["nominal"],
    }


@checks("fleiss.small")
def _(case):
    units = case["input"]["units_by_rater"]
    found = agreement.coder_agreement(units, n_resamples=50)
    return {
        "fleiss": found["fleiss_kappa"].value,
        "mean_pairwise_agreement": found["percent_agreement"].value,
        "alpha_nominal": found["krippendorff_alpha"].value,
    }


@checks("likert.shift", "likert.qwk_label_trap", "likert.ties")
def _(case):
    given = case["input"]
    found = label_score(given["human"], given["llm"], given.get("scale", range(1, 6)), "likert")
    names = {
        "spearman": "spearman_corr",
        "kendall_tau_b": "kendall_tau_b",
        "qwk": "quadratic_kappa",
        "qwk_full_scale": "quadratic_kappa",
        "lwk": "linear_kappa",
        "alpha_ordinal": "krippendorff_alpha",
        "alpha_interval": "alpha_interval",
        "mae": "mae",
        "bias": "bias",
        "within1": "within_one",
    }
    return {key: found[name] for key, name in names.items() if key in case["expected"]}


@checks("likert.spearman_ci_bonett_wright")
def _(case):
    return {"ci95": list(ordinal.spearman_limits(case["input"]["r"], case["input"]["n"]))}


@checks("text.lev.0")
def _(case):
    human, model = case["input"]["human"], case["input"]["llm"]
    return {"normalized_similarity": text.levenshtein_similarity(human, model)}


@checks("text.bleu.2", "text.bleu.4", "text.bleu.5")
def _(case):
    human, model = case["input"]["human"], case["input"]["llm"]
    return {
        "sacre_sentence_effective": text.sentence_bleu(human, model),
        "sacre_sentence_no_effective": text.corpus_bleu([human], [model]),
    }


@checks("text.bleu.corpus")
def _(case):
    human, model = case["input"]["human"], case["input"]["llm"]
    found = score_field(FieldData("textbox", (), human, model), n_resamples=50)
    version = found.signature["bleu"].rsplit(":", 1)[1]
    return {
        "corpus": found.extra["bleu_corpus"].value,
        "mean_of_sentences": found.results["bleu"].value,
        "signature": found.signature["bleu_corpus"].replace(version, "2.6.0"),
        "sentence_signature": found.signature["bleu"].replace(version, "2.6.0"),
    }


@checks("text.rouge.0")
def _(case):
    pytest.importorskip("rouge_score")
    human, model = [case["input"]["human"]], [case["input"]["llm"]]
    return {
        key: {
            name: float(_rouge(human, model, stem)[f"{name}_f"][0]) for name in ("rouge1", "rouge2", "rougeL")
        }
        for key, stem in (("nostem", False), ("stem", True))
    }


def _rouge(human, model, stem=False) -> dict[str, Any]:
    return extra_scores(human, model, TextExtras(("rouge",), rouge_stemmer=stem)).values


@checks("text.chance_corrected")
def _(case):
    human, model = case["input"]["human"], case["input"]["llm"]
    chance = text.chance_similarity(human, model, text.levenshtein_similarities)
    found = score_field(FieldData("textbox", (), human, model), n_resamples=50)
    return {
        "observed": found.results["norm_levenshtein"].value,
        "chance_all": chance,
        "corrected_all": found.extra["norm_levenshtein_chance_corrected"].value,
    }


def span_score(docs, labels=("ACTOR", "CLAIM")):
    sides = {who: [[tuple(span) for span in doc[who]] for doc in docs] for who in ("human", "llm")}
    data = FieldData("span", labels, sides["human"], sides["llm"], texts=[doc["text"] for doc in docs])
    return score_field(data, n_resamples=50)


@checks("span.four_docs")
def _(case):
    found = span_score(case["input"])
    value = {name: result.value for name, result in (found.results | found.extra).items()}
    return {
        "exact_labelled": {
            "precision": value["exact_match_precision"],
            "recall": value["exact_match_recall"],
            "f1": value["exact_match_f1"],
            "n_human": found.counts["human_spans"],
            "n_llm": found.counts["model_spans"],
        },
        "token_labelled": {
            "precision": value["token_precision"],
            "recall": value["token_recall"],
            "f1": value["token_f1"],
        },
        "char_labelled": {
            "iou_micro": value["char_iou"],
            "iou_mean_nonempty": value["char_iou_mean"],
            "char_f1_micro": value["char_f1"],
        },
        "exact_unlabelled": {"f1": value["exact_match_f1_unlabelled"]},
        "token_unlabelled": {"f1": value["token_f1_unlabelled"]},
        "char_unlabelled": {"iou_micro": value["char_iou_unlabelled"]},
        "presence": {
            "po": value["presence_agreement"],
            "f1": value["presence_f1"],
            "kappa": value["presence_kappa"],
        },
    }


@checks("span.nervaluate")
def _(case):
    found = span_score(case["input"])
    value = {name: result.value for name, result in (found.results | found.extra).items()}
    return {
        "strict": {"f1": value["exact_match_f1"]},
        "partial": {"f1": value["partial_f1"]},
        "ent_type": {"f1": value["type_f1"]},
        "exact": {"f1": value["exact_match_f1_unlabelled"]},
    }


@checks("span.nervaluate_offbyone")
def _(case):
    return {"inclusive_correct": {"f1": span_score(case["input"], ("X",)).results["partial_f1"].value}}


@checks("span.empty_inflation")
def _(case):
    docs = [{"text": "nothing here", "human": [], "llm": []}] * 90
    docs += [{"text": "one span", "human": [[0, 3, "X"]], "llm": []}] * 10
    found = span_score(docs, ("X",))
    return {
        "iou_micro": found.results["char_iou"].value,
        "exact_f1": found.results["exact_match_f1"].value,
        "presence_recall": found.results["presence_f1"].value,
    }


@checks("span.squad_f1.0", "span.squad_f1.2")
def _(case):
    return {"f1": spans.quote_f1(case["input"]["human"], case["input"]["llm"])}


@checks("ci.prop.50_50", "ci.prop.83_100")
def _(case):
    return {"wilson": list(wilson(case["input"]["k"], case["input"]["n"]))}


def table_metrics(totals):
    tables = totals.reshape(-1, 3, 3)
    c = cls.label_counts(np.concatenate([tables, np.zeros((len(tables), 3, 1))], axis=-1))
    return {
        "macro_f1": cls.f1_macro(c),
        "kappa": cls.cohen_kappa(c),
        "qwk": ordinal.quadratic_kappa(tables, np.arange(3.0)),
    }


def table_sample(case):
    table = np.array(case["input"]["confusion"])
    return sample_cells(np.repeat(np.arange(9), table.ravel()), 9)


@checks("ci.macro_f1_kappa")
def _(case):
    found = Intervals(table_sample(case), table_metrics, Settings())
    drawn = bootstrap(found.sample, table_metrics, 400_000, 1)
    weights = (np.arange(3.0)[:, None] - np.arange(3.0)) ** 2
    table = np.array(case["input"]["confusion"], dtype=float)
    plain, quadratic = agreement.kappa_error(table), agreement.kappa_error(table, weights)
    return {
        "macro_f1": found.values["macro_f1"],
        "macro_f1_se_boot": standard_error(drawn["macro_f1"]),
        "macro_f1_ci_percentile": list(percentile_limits(drawn["macro_f1"], 0.95)[:2]),
        "kappa": found.values["kappa"],
        "kappa_se_fce": plain.se,
        "kappa_se_boot": standard_error(drawn["kappa"]),
        "kappa_ci_fce": [plain.ci_low, plain.ci_high],
        "kappa_ci_percentile": list(percentile_limits(drawn["kappa"], 0.95)[:2]),
        "qwk": found.values["qwk"],
        "qwk_se_fce": quadratic.se,
        "qwk_se_boot": standard_error(drawn["qwk"]),
    }


@checks("cmp.mcnemar.15_6", "cmp.mcnemar.40_60")
def _(case):
    table = case["input"]["table"]
    found = significance.mcnemar(table[0][1], table[1][0], sum(map(sum, table)))
    return {
        "p_exact": found.p_exact,
        "p_mid": found.p_mid,
        "diff": found.diff,
        "ci_bonett_price": [found.ci_low, found.ci_high],
    }


@checks("cmp.multiple")
def _(case):
    names = {"holm": "holm", "fdr_bh": "bh", "fdr_by": "by", "bonferroni": "bonferroni"}
    return {key: significance.adjusted(case["input"]["p"], name).tolist() for key, name in names.items()}


@checks("cmp.cochran_q")
def _(case):
    found = significance.cochran_q(np.array(case["input"]["correct_by_text_and_run"]))
    return {"statistic": found.statistic, "df": found.df, "p": found.p}


@checks("cmp.randomisation_exact")
def _(case):
    given = case["input"]
    a, b = (FieldData("dropdown", tuple("abc"), given["human"], given[f"run_{run}"]) for run in "ab")
    found = compare_two(a, b, "f1_macro", n_resamples=200)
    assert found.p_method == "exact randomisation"
    return {
        "f1_a": found.value_a,
        "f1_b": found.value_b,
        "diff": -found.diff,  # ours is A minus B
        "n_discordant": found.n_discordant,
        "p_two_sided": found.p,
    }


@checks("plan.mcnemar_n")
def _(case):
    given = case["input"]
    pairs = zip(given["delta"], given["discordant"], strict=True)
    return {"n": [significance.texts_to_detect(d, s, given["power"], given["alpha"]) for d, s in pairs]}


# --- reference_values_given.json ------------------------------------------------------------------


@checks(
    "kripp_canonical_4x12_nominal",
    "kripp_canonical_4x12_ordinal",
    "kripp_canonical_4x12_interval",
    "kripp_canonical_4x12_ratio",
    "kripp_canonical_4x12_nominal_precise",
    "kripp_binary_2x10",
    "kripp_nominal_2x12",
    "kripp_negative_small",
)
def _(case):
    level = case["input"]["level"]
    return {"alpha": _alphas(list(zip(*case["input"]["data"], strict=True)), [level])[level]}


def _ratings(case):
    return case["input"].get("ratings") or CASES[case["input"]["ratings_ref"]]["input"]["ratings"]


@checks("fleiss_1971_psychiatric", "fleiss_1971_irr", "fleiss_wikipedia_10x14")
def _(case):
    counts = case["input"].get("counts")
    counts = value_counts(_ratings(case))[0] if counts is None else np.array(counts)
    return {"kappa": float(agreement.fleiss_kappa(CoderTotals.of_counts(counts)))}


@checks("irr_diagnoses_pair_1_2", "irr_diagnoses_pair_2_3")
def _(case):
    one, two = ([unit[rater - 1] for unit in _ratings(case)] for rater in case["input"]["raters"])
    return {"kappa": label_score(one, two, range(1, 6))["cohen_kappa"]}


@checks("cohen_1968_weighted")
def _(case):
    table = np.array(case["input"]["table"], dtype=float)
    weights = np.array(case["input"]["disagreement_weights"], dtype=float)
    return {
        "kappa": cls.cohen_kappa(squares(table)),
        "weighted_kappa": ordinal.weighted_kappa(table, weights),
    }


@checks("cohen_wikipedia_2x2")
def _(case):
    return {"kappa": cls.cohen_kappa(squares(case["input"]["table"]))}


@checks("cohen_wikipedia_same_accuracy")
def _(case):
    one, two = (cls.cohen_kappa(squares(table)) for table in case["input"]["tables"])
    return {"kappa_1": one, "kappa_2": two}


@checks("artstein_poesio_2008")
def _(case):
    table = np.array(case["input"]["table_rows_coder_a_cols_coder_b"], dtype=float)
    return {
        "percent_agreement": cls.accuracy(squares(table)),
        "scott_pi": agreement.scott_pi(table),
        "bennett_S": agreement.bennett_s(table),
    }


@checks("sklearn_multiclass")
def _(case):
    one = [0] * 46 + [1] * 44 + [2] * 10
    two = [0] * 52 + [1] * 32 + [2] * 16
    return {"kappa": label_score(one, two, (0, 1, 2))["cohen_kappa"]}


@checks("sklearn_binary")
def _(case):
    return {
        "kappa": label_score(case["input"]["y1_expanded"], case["input"]["y2_expanded"], (0, 1))[
            "cohen_kappa"
        ]
    }


@checks("sas_kappa_3x3")
def _(case):
    error = agreement.kappa_error(np.array(case["input"]["table"], dtype=float))
    return {
        "kappa": error.kappa,
        "ase": error.se,
        "ci95_low": error.ci_low,
        "ci95_high": error.ci_high,
        "ase_h0": error.se_null,
        "z": error.z,
    }


@checks("gwet_abstractors_3x3")
def _(case):
    table = np.array(case["input"]["table"], dtype=float)
    c = squares(table)
    return {
        "cohen_kappa": cls.cohen_kappa(c),
        "scott_pi": agreement.scott_pi(table),
        "gwet_ac1": cls.gwet_ac1(c),
        "brennan_prediger": agreement.bennett_s(table),
        "krippendorff_alpha": cls.alpha_nominal(c),
        "percent_agreement": cls.accuracy(c),
    }


@checks("gwet_raw4raters_missing")
def _(case):
    found = agreement.coder_agreement(case["input"]["ratings"], n_resamples=50)
    return {
        "gwet_ac1": found["gwet_ac1"].value,
        "fleiss_kappa_generalised": found["fleiss_kappa"].value,
        "krippendorff_alpha": found["krippendorff_alpha"].value,
        "percent_agreement": found["percent_agreement"].value,
    }


@checks("mcnemar_1", "mcnemar_2")
def _(case):
    table = case["input"]["table"]
    found = significance.mcnemar(table[0][1], table[1][0], sum(map(sum, table)))
    return {"exact_p": found.p_exact}


@checks("calib.small")
def _(case):
    given = case["input"]
    sure, right = np.array(given["conf"]), np.array(given["correct"])
    summed = calibration.brier(given["proba"], given["y"])
    return {
        "ece_10_right_closed": calibration.calibration_error(sure, right, calibration.equal_width(sure)),
        "ece_5_equal_mass": calibration.calibration_error(sure, right, calibration.equal_mass(sure, 5)),
        "brier_binary": calibration.brier_binary(sure, right),
        "auroc_correctness": calibration.auroc(sure, right),
        "risk_coverage_tie_aware": calibration.risk_coverage(sure, right),
        "brier_multiclass_sum": summed,
        "brier_multiclass_half": summed / 2,
    }


@checks("calib.ece_bias")
def _(case):
    draw = np.random.default_rng(3)
    return {
        str(n): np.mean(
            [calibration.null_error(draw.uniform(0.5, 1, n), draws=100, seed=i) for i in range(3)]
        )
        for n in case["input"]["n"]
    }


@checks("mcnemar_agresti_approval")
def _(case):
    """Only the chi-squared statistics are given: the uncorrected one from the counts that enter mid-p."""
    table = case["input"]["table"]
    b, c, n = table[0][1], table[1][0], sum(map(sum, table))
    assert significance.mcnemar(b, c, n).diff == pytest.approx((b - c) / n)
    assert significance.mcnemar(b, c, n).p_mid == pytest.approx(math.erfc(math.sqrt(17.3559322 / 2)), rel=0.1)
    return {}


@checks("sacrebleu_readme_13a", "sacrebleu_readme_none")
def _(case):
    """Two reference streams; our corpora have one human text each, so each stream is held to sacrebleu."""
    from sacrebleu.metrics.bleu import BLEU

    given = case["input"]
    for stream in given["reference_streams"]:
        expected = BLEU(tokenize=given["tokenize"]).corpus_score(given["hypotheses"], [stream]).score
        found = text.corpus_bleu(stream, given["hypotheses"], given["tokenize"])
        assert found == pytest.approx(expected, abs=1e-9)
    return {}


@checks("sacrebleu_sentence")
def _(case):
    human, model = case["input"]["reference"], case["input"]["hypothesis"]
    return {
        "exp_13a": text.sentence_bleu(human, model),
        "exp_char": text.sentence_bleu(human, model, "char"),
    }


@checks("bleu_paper_modified_precision")
def _(case):
    given = case["input"]["examples"][0]
    counts = text.bleu_statistics([given["refs"][0]], [given["hyp"]])[0]
    return {"the_x7_unigram": counts[2] / counts[6]}


@checks("rouge_rouge1_tiny", "rouge_rouge2_tiny", "rouge_rougeL_tiny")
def _(case):
    pytest.importorskip("rouge_score")
    found = _rouge([case["input"]["target"]], [case["input"]["prediction"]])
    return {"f": float(found[f"{case['statistic']}_f"][0])}


# --- the comparison -------------------------------------------------------------------------------


def compare(found: Any, expected: Any, tolerance: float, where: str) -> int:
    """Hold found values against the expected ones of the same keys; return how many were held."""
    if isinstance(found, dict):
        return sum(compare(found[key], expected[key], tolerance, f"{where}.{key}") for key in found)
    if isinstance(expected, list):
        assert len(found) == len(expected), where
        return sum(
            compare(f, e, tolerance, f"{where}[{i}]")
            for i, (f, e) in enumerate(zip(found, expected, strict=True))
        )
    if isinstance(expected, str) and expected not in ("NaN", "Inf", "-Inf"):
        if (
            "Error" in expected
        ):  # the reference package refuses what is undefined; ours is blank with a reason
            assert math.isnan(found), where
        else:
            assert found == expected, where
        return 1
    assert float(found) == pytest.approx(float(expected), abs=tolerance, nan_ok=True), where
    return 1


@pytest.mark.parametrize("name", [name for name in VECTORS if name not in LEFT])
def test_vector(name):
    case = VECTORS[name]
    assert compare(CHECKS[name](case), case["expected"], case["tol"], name) > 0


@pytest.mark.parametrize("name", [name for name in CASES if name not in LEFT])
def test_given_reference_value(name):
    case = CASES[name]
    for key, found in CHECKS[name](case).items():
        expected = case["expected"][key]
        assert float(found) == pytest.approx(expected["value"], abs=expected["abs_tol"]), f"{name}.{key}"


def test_every_check_belongs_to_a_reference_value():
    assert set(CHECKS) | set(LEFT) == set(VECTORS) | set(CASES)
