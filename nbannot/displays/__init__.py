"""Displays: everything a person looks at, as HTML without scripts and as its twin in plain text.

Every function returns a `Fragment`. Importing this room imports neither pandas, scikit-learn nor matplotlib.
"""

from nbannot.displays.cards import run_card
from nbannot.displays.fragment import Fragment
from nbannot.displays.report import report

__all__ = ["Fragment", "report", "run_card"]
