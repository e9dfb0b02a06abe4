"""Displays: everything a person looks at, as HTML without scripts and as its twin in plain text.

Every function returns a `Fragment`. Importing this room imports neither pandas, scikit-learn nor matplotlib.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbannot.displays.cards import codebook_card as codebook_card
    from nbannot.displays.cards import coder_card as coder_card
    from nbannot.displays.cards import corpus_card as corpus_card
    from nbannot.displays.cards import run_card as run_card
    from nbannot.displays.cards import task_card as task_card
    from nbannot.displays.coders import agreement_card as agreement_card
    from nbannot.displays.coders import class_card as class_card
    from nbannot.displays.coders import consensus_card as consensus_card
    from nbannot.displays.coders import field_agreement_card as field_agreement_card
    from nbannot.displays.coders import stale_labels_card as stale_labels_card
    from nbannot.displays.comparisons import comparison as comparison
    from nbannot.displays.cost_plots import costs_of as costs_of
    from nbannot.displays.cost_plots import tradeoff as tradeoff
    from nbannot.displays.findings import finding as finding
    from nbannot.displays.plans import personal_data_card as personal_data_card
    from nbannot.displays.plans import plan_card as plan_card
    from nbannot.displays.plans import plans_card as plans_card
    from nbannot.displays.plots import forest as forest
    from nbannot.displays.progress_line import progress as progress
    from nbannot.displays.reports import report as report
    from nbannot.displays.reports import rescored as rescored
    from nbannot.displays.run_plots import fields_forest as fields_forest
    from nbannot.displays.run_plots import intervals as intervals
    from nbannot.displays.single_text import one_text as one_text
    from nbannot.displays.spans import span_view as span_view
    from nbannot.displays.tables import metric_table as metric_table
    from nbannot.displays.tables import runs_card as runs_card
    from nbannot.displays.tables import runs_table as runs_table
    from nbannot.displays.texts import disagreements as disagreements
    from nbannot.displays.texts import disagreements_page as disagreements_page
    from nbannot.displays.texts import text_pairs as text_pairs
    from nbannot.displays.views import confusion as confusion
    from nbannot.displays.views import label_distribution as label_distribution
    from nbannot.displays.views import likert_view as likert_view
    from nbannot.page.figure import Figure as Figure
    from nbannot.page.fragment import Fragment as Fragment

_HOME = {
    "agreement_card": "displays.coders",
    "class_card": "displays.coders",
    "codebook_card": "displays.cards",
    "coder_card": "displays.cards",
    "comparison": "displays.comparisons",
    "confusion": "displays.views",
    "corpus_card": "displays.cards",
    "consensus_card": "displays.coders",
    "stale_labels_card": "displays.coders",
    "costs_of": "displays.cost_plots",
    "disagreements": "displays.texts",
    "disagreements_page": "displays.texts",
    "field_agreement_card": "displays.coders",
    "fields_forest": "displays.run_plots",
    "Figure": "page.figure",
    "finding": "displays.findings",
    "forest": "displays.plots",
    "Fragment": "page.fragment",
    "intervals": "displays.run_plots",
    "label_distribution": "displays.views",
    "likert_view": "displays.views",
    "metric_table": "displays.tables",
    "one_text": "displays.single_text",
    "personal_data_card": "displays.plans",
    "plan_card": "displays.plans",
    "plans_card": "displays.plans",
    "progress": "displays.progress_line",
    "report": "displays.reports",
    "rescored": "displays.reports",
    "run_card": "displays.cards",
    "runs_card": "displays.tables",
    "runs_table": "displays.tables",
    "span_view": "displays.spans",
    "task_card": "displays.cards",
    "text_pairs": "displays.texts",
    "tradeoff": "displays.cost_plots",
}
"""Name -> file; each is imported when it is used, so that the doors can show progress without any of the others."""

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"nbannot.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOME)
