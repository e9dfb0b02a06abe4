"""The report in a notebook: the same blocks as ``classification_reports.txt``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbannot.comparing.ceiling import bands_of
from nbannot.page.fragment import Fragment
from nbannot.report.report import report_blocks

if TYPE_CHECKING:
    from nbannot.comparing.rescoring.rescore import Rescored
    from nbannot.record.run import Run


def report(run: Run, field: str | None = None) -> Fragment:
    """Return the report on a run, or on one field: scores against the human labels, per label, with the errors."""
    return Fragment.of(report_blocks(run, field, bands_of(run)))


def rescored(found: Rescored) -> Fragment:
    """Return a run folder scored again: old values beside new ones, and why they differ."""
    return Fragment.of(found.blocks())
