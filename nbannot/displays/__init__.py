"""Displays: everything a person looks at, as HTML without scripts and as its twin in plain text.

Every function returns a `Fragment`. Importing this room imports neither pandas, scikit-learn nor matplotlib.
"""

from nbannot.displays.cards import codebook_card, coder_card, plan_card, run_card, task_card
from nbannot.displays.coders import agreement_card, class_card, consensus_card
from nbannot.displays.comparisons import comparison
from nbannot.displays.live import progress as live_progress
from nbannot.displays.plots import forest, tradeoff
from nbannot.displays.progress_line import progress
from nbannot.displays.reports import report, rescored
from nbannot.displays.spans import span_view
from nbannot.displays.tables import metric_table, runs_card, runs_table
from nbannot.displays.texts import disagreements, text_pairs
from nbannot.displays.views import confusion, label_distribution, likert_view
from nbannot.page.figure import Figure
from nbannot.page.fragment import Fragment

__all__ = [
    "Figure",
    "Fragment",
    "agreement_card",
    "class_card",
    "codebook_card",
    "coder_card",
    "comparison",
    "confusion",
    "consensus_card",
    "disagreements",
    "forest",
    "label_distribution",
    "likert_view",
    "live_progress",
    "metric_table",
    "plan_card",
    "progress",
    "report",
    "rescored",
    "run_card",
    "runs_card",
    "runs_table",
    "span_view",
    "task_card",
    "text_pairs",
    "tradeoff",
]
