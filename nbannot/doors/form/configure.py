"""The run configurator: a form that checks while one types, says the price, runs in the background and shows the cell.

`Form` is the third door into the same `nbannot.run`. Every entry is a setting of `RunConfig`; several values, separated
by commas or chosen together, make a sweep. The kernel stays free while a run is under way: another thread does the work
and only the widgets are told. While one types, nothing is sent to a model and nothing is fetched.
"""

from __future__ import annotations

from typing import Any

from nbannot.doors.form.form import Form

__all__ = ["Form", "configure"]


def configure(task: Any = "policy-sentiment", /, *, codebook: Any = None, **defaults: Any) -> Form:
    """Return a form with which runs of a task are set up, started, stopped and read.

    Parameters
    ----------
    task
        As for `nbannot.run`: a `Task`, a bundled name, a folder, or a DataFrame with `codebook`. An earlier run, its
        folder or its ``config.json`` opens the form with its task and settings.
    defaults
        Settings that the form begins with; a list stands for several values, `repeats` for repetitions. Settings for
        which the form has no entry are kept as they are.

    Raises
    ------
    ConfigError
        If there is no setting of such a name, or a file of settings cannot be read.
    TaskError, CodebookError
        If the task cannot be used.
    """
    return Form(task, codebook=codebook, **defaults)
