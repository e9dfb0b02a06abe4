"""Words: what metrics, statuses and settings are called when people read of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from nbannot.models.addresses import door_of, is_loopback
from nbannot.models.place import operator_of
from nbannot.page.digits import count
from nbannot.study.settings import DEFAULTS, SETTINGS

if TYPE_CHECKING:
    from nbannot.measures.result import FieldScore
    from nbannot.record.run import Run

METRIC_WORDS = {
    "accuracy": "accuracy",
    "precision_macro": "macro precision",
    "recall_macro": "macro recall",
    "f1_macro": "macro F1",
    "percentage_agreement": "percentage agreement",
    "cohen_kappa": "Cohen's kappa",
    "krippendorff_alpha": "Krippendorff's alpha",
    "spearman_corr": "Spearman correlation",
    "quadratic_kappa": "quadratic kappa",
    "f1_weighted": "weighted F1",
    "balanced_accuracy": "balanced accuracy",
    "mcc": "Matthews correlation",
    "gwet_ac1": "Gwet's AC1",
    "coverage": "coverage",
    "invalid_rate": "share asked without a valid answer",
    "baseline_accuracy": "majority baseline, accuracy",
    "baseline_f1_macro": "majority baseline, macro F1",
    "mae": "mean absolute error",
    "bias": "bias (model − human)",
    "within_one": "within one point",
    "norm_levenshtein": "Levenshtein similarity",
    "bleu": "BLEU (0–100)",
    "rouge1_f": "ROUGE-1",
    "rouge2_f": "ROUGE-2",
    "rougeL_f": "ROUGE-L",
    "cosine_similarity": "cosine similarity",
    "bertscore_precision": "BERTScore precision",
    "bertscore_recall": "BERTScore recall",
    "bertscore_f1": "BERTScore F1",
    "presence_f1": "presence F1",
    "token_f1": "token F1",
    "token_precision": "token precision",
    "token_recall": "token recall",
    "exact_match_f1": "exact-match F1",
    "partial_f1": "partial-match F1",
    "char_iou": "character overlap (IoU)",
    "f1_micro": "micro F1",
    "missed_gate_rate": "share where only the model says “does not apply”",
    "gate_f1": "F1 of “it applies”",
    "pabak": "PABAK (Brennan-Prediger)",
    "alpha_nominal": "alpha, nominal",
    "alpha_interval": "alpha, interval",
    "kendall_tau_b": "Kendall's tau-b",
    "bleu_corpus": "BLEU, corpus (0–100)",
    "char_f1": "character F1",
    "char_iou_mean": "character overlap, mean of texts",
    "type_f1": "type F1 (any overlap, same label)",
    "token_f1_macro": "token F1, mean of labels",
    "precision_micro": "micro precision",
    "recall_micro": "micro recall",
    "jaccard": "Jaccard (mean of texts)",
    "hamming_loss": "Hamming loss (share of wrong options)",
    "alpha_jaccard": "alpha, Jaccard distance",
    "both_empty_share": "share of texts where neither side chose any",
}
"""Metric on disk -> what people call it."""

LABEL_HEADLINES = ("f1_macro", "percentage_agreement", "cohen_kappa", "krippendorff_alpha", "precision_macro",
                   "recall_macro", "gwet_ac1")  # fmt: skip
HEADLINES: dict[str, tuple[str, ...]] = {
    "checkbox": LABEL_HEADLINES,
    "dropdown": LABEL_HEADLINES,
    "likert": ("quadratic_kappa", "spearman_corr", "krippendorff_alpha", "percentage_agreement", "within_one", "mae",
               "bias", "f1_macro"),
    "textbox": ("norm_levenshtein", "bleu", "rouge1_f", "rouge2_f", "rougeL_f", "cosine_similarity", "bertscore_f1",
                "percentage_agreement", "presence_f1"),
    "span": ("token_f1", "token_precision", "token_recall", "exact_match_f1", "partial_f1", "char_iou",
             "presence_f1"),
    "multiselect": ("f1_macro", "f1_micro", "jaccard", "percentage_agreement", "krippendorff_alpha", "precision_macro",
                    "recall_macro", "hamming_loss", "both_empty_share"),
}  # fmt: skip
"""Type -> the metrics to read, the first ones first."""

CARD_METRICS: dict[str, tuple[str, ...]] = {
    "checkbox": ("f1_macro", "percentage_agreement", "cohen_kappa"),
    "dropdown": ("f1_macro", "percentage_agreement", "cohen_kappa"),
    "likert": ("quadratic_kappa", "spearman_corr", "percentage_agreement", "bias"),
    "textbox": ("norm_levenshtein", "presence_f1"),
    "span": ("token_f1", "exact_match_f1"),
    "multiselect": ("f1_macro", "jaccard", "percentage_agreement"),
}
"""Type -> the few metrics that stand on a run's card."""

BASELINE = {
    "f1_macro": "baseline_f1_macro",
    "accuracy": "baseline_accuracy",
    "percentage_agreement": "baseline_accuracy",
}
"""Metric -> what always answering the most frequent human label would score."""

ANSWERED_TWIN = {
    "f1_macro": "f1_macro_answered",
    "percentage_agreement": "accuracy_answered",
    "accuracy": "accuracy_answered",
    "cohen_kappa": "cohen_kappa_answered",
    "gwet_ac1": "gwet_ac1_answered",
    "norm_levenshtein": "norm_levenshtein_answered",
    "bleu": "bleu_answered",
    "token_f1": "token_f1_answered",
    "exact_match_f1": "exact_match_f1_answered",
    "jaccard": "jaccard_answered",
}
"""Metric -> the same number over the answered rows alone."""

STATUS_WORDS = {
    "ok": "valid",
    "invalid": "invalid",
    "refused": "refused",
    "truncated": "cut off",
    "failed": "failed (no reply)",
    "not_applicable": "not applicable",
    "not_asked": "not asked",
}
"""Status of an answer -> how it is counted in words."""

MAIN_SETTINGS = ("model", "prompt_type", "use_examples", "temperature", "chat_mode")
"""Settings that are always shown."""

UNSHOWN_SETTINGS = ("output_root", "task_root", "process_textbox", "process_span", "country_iso_code", "base_url",
                    "threads", "max_parallel", "workers", "timeout_s")  # fmt: skip
"""Settings that are told elsewhere or decide nothing."""


def metric_words(name: str) -> str:
    """Return what people call a metric.

    >>> metric_words("f1_macro"), metric_words("linear_kappa")
    ('macro F1', 'linear kappa')
    """
    if name in METRIC_WORDS:
        return METRIC_WORDS[name]
    for ending, words in (
        ("_worst_case", "missing answers at their worst"),
        ("_chance_corrected", "beyond chance"),
    ):
        if name.endswith(ending):
            return f"{metric_words(name.removesuffix(ending))}, {words}"
    return name.replace("_", " ")


def weighted_counts(row: Mapping[str, Any], n: float = 0.0) -> tuple[float, float, float]:
    """Return how often people and the model gave a label, and of how many texts; weighted where the texts have weights.

    Parameters
    ----------
    row
        One label of `FieldScore.per_class`.
    n
        The texts with a human label.
    """
    support, predicted, of = row.get("weights", (row["support"], row["predicted"], n))
    return float(support), float(predicted), float(of)


def variation_of(score: FieldScore) -> str:
    """Return what the labels that people used leave open, as a sentence; nothing where they used all of them."""
    from nbannot.measures.label_report import variation_words

    labelled = score.confusion is not None
    return variation_words([(row["label"], row["support"]) for row in score.per_class]) if labelled else ""


def plural(n: int, one: str, many: str = "") -> str:
    """Return a number with its noun.

    >>> plural(1, "text"), plural(1200, "text")
    ('1 text', '1,200 texts')
    """
    return f"{count(n)} {one if n == 1 else many or one + 's'}"


def setting_text(value: Any) -> str:
    """Return the value of a setting as it stands in a cell of settings.

    >>> setting_text(True), setting_text(0.0), setting_text(None)
    ('true', '0', 'unset')
    """
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def settings_shown(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the settings worth reading: the main ones, and those that are not at their default."""
    changed = [
        name
        for name in SETTINGS
        if name in config and name not in UNSHOWN_SETTINGS and _plain(config[name]) != _plain(DEFAULTS[name])
    ]
    left_out = [name for name in ("process_textbox", "process_span") if config.get(name) is False]
    names = [*(name for name in MAIN_SETTINGS if name in config), *changed, *left_out]
    return [(name, setting_text(config[name])) for name in dict.fromkeys(names)]


def settings_refused(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a row that says which settings the model or its server did not take; none if all were taken.

    >>> found = {"dropped": {"temperature": "does not support 0", "seed": "unknown"}}
    >>> settings_refused({"temperature": 0.0, "seed": None, "capabilities": found})
    [('not taken', 'temperature (the model had its own)')]
    """
    refused = sampling_refused(config)
    said = [f"{', '.join(refused)} (the model had its own)"] if refused else []
    wanted = config.get("reasoning")
    for told in _found(config) if wanted is not None else ():
        efforts = told.get("efforts") or {}
        if efforts or "thinking" in (told.get("dropped") or {}) or told.get("unswitched"):
            effort = next(iter(efforts.values()), "")
            instead = f"{effort} effort was asked for" if effort else "the model thought as it does by itself"
            said.append(f"reasoning = {setting_text(wanted)} ({instead})")
    return [("not taken", "; ".join(dict.fromkeys(said)))] if said else []


def sampling_refused(config: Mapping[str, Any]) -> list[str]:
    """Return which settings of sampling a run was given and its model did not take."""
    dropped = {name for told in _found(config) for name in told.get("dropped") or {}}
    if "random_seed" in dropped:
        dropped.add("seed")
    return [
        n for n in ("temperature", "top_p", "top_k", "seed") if n in dropped and config.get(n) is not None
    ]


def _found(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what was found of what models take: of one, of a text model beside it, of servers that differ."""
    told = config.get("capabilities") or {}
    inner = [told, told.get("text_model") or {}, *(told.get("servers") or {}).values()]
    return [one for one in inner if isinstance(one, Mapping)]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def statuses(counts: Mapping[str, int]) -> str:
    """Return how many answers have each status, in words.

    >>> statuses({"ok": 3, "invalid": 1})
    '3 valid · 1 invalid'
    """
    return " · ".join(f"{count(counts[s])} {words}" for s, words in STATUS_WORDS.items() if counts.get(s))


def model_notes(config: Mapping[str, Any]) -> list[str]:
    """Return what must be known of a run's model: what it says of itself, and whether it was the same to the end."""
    return [*((config.get("model_info") or {}).get("notes") or ()), *(config.get("model_changes") or ())]


def where_texts_went(config: Mapping[str, Any]) -> str:
    """Return in words where the texts of a run were sent to: in its last session, and before."""
    info = config.get("model_info") or {}
    last = {door_of(one) for one in str(info.get("endpoint") or "").split(", ")}
    before = [one for one in config.get("answered_by") or () if "//" in one and door_of(one) not in last]
    words = [_destination(info, "they stayed on this machine")]
    words += [_destination({"endpoint": one, "is_local": is_loopback(one)}, "") for one in before]
    return "; before: ".join(filter(None, (words[0], ", ".join(words[1:]))))


def where_texts_go(info: Mapping[str, Any]) -> str:
    """Return in words where the texts would be sent to, from what the model says of itself."""
    return _destination(info, "nowhere: they stay on this machine")


def _destination(info: Mapping[str, Any], here: str) -> str:
    if isinstance(writer := (info.get("details") or {}).get("text_model"), Mapping):
        place = str(info.get("endpoint") or "")  # `is_local` of a pair is about both
        first = _destination({"endpoint": place, "is_local": not place or is_loopback(place)}, here)
        return f"{first}; for textbox and span fields: {_destination(writer, here)}"
    endpoint, local = info.get("endpoint"), info.get("is_local", True)
    if not endpoint:
        return here if local else "to another machine, which did not say where it is"
    who = operator_of(endpoint) if not local else ""
    return f"{endpoint} ({'on this machine' if local else who or 'another machine'})"


def state_of(run: Run) -> tuple[str, str]:
    """Return a run's status in plain words, and how to go on ("" where there is nothing to do)."""
    if run.status == "complete":
        return "complete", ""
    open_, every = run.n_open, run.n_texts * len(run.coding.fields)
    why = f": {run.config['stopped']}" if run.config.get("stopped") else ""
    go_on = "Run the same cell or script again: it goes on from here and asks only for what is missing."
    if run.status == "failed":
        return f"failed, no valid answer came{why}", go_on
    still = f", {plural(open_, 'answer')} of {count(every)} still open" if open_ else ""
    return f"{run.status}{still}{why}", go_on


def why_failed(run: Run, at_most: int = 3) -> list[str]:
    """Return the most frequent reasons of calls without a reply, with their number."""
    counts: dict[str, int] = {}
    for answers in run.coding.answers.values():
        for answer in answers:
            if answer.status == "failed":
                reason = answer.reason or "no reason given"
                counts[reason] = counts.get(reason, 0) + 1
    return by_number(counts, at_most)


def by_number(counts: Mapping[str, int], at_most: int = 6) -> list[str]:
    """Return what was counted, the most frequent first, with its number; the rest as one number."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    shown = [f"{count(n)} × {what}" for what, n in ordered[:at_most]]
    rest = sum(n for _, n in ordered[at_most:])
    return [*shown, f"{count(rest)} × other"] if rest else shown


def listing(items: Iterable[tuple[str, str]]) -> str:
    """Return names and values on one line.

    >>> listing([("a", "1"), ("b", "2")])
    'a 1 · b 2'
    """
    return " · ".join(f"{name} {value}" for name, value in items)
