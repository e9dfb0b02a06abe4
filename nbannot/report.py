"""The report: what a run's labels are worth, in words and tables that a person enjoys reading."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbannot.run import Run


def report_text(run: Run) -> str:
    """Return the text of ``classification_reports.txt``."""
    lines = [
        f"Run {run.run_id}: {run.model_id} on '{run.task.name}', {len(run.task)} texts, {run.status}",
        "",
    ]
    for column, score in run.scores.fields.items():
        lines += [column, f"  {score.conventions}"]
        for name, result in score.results.items():
            lines.append(
                f"  {name:24} {result.value:8.3f}  [{result.ci_low:.3f}, {result.ci_high:.3f}]  n={result.n} {result.reason}"
            )
        lines.append("")
    return "\n".join(lines)
