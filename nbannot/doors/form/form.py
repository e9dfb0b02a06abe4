"""The form itself: entries laid out, checked as one types, and a run in a thread of its own."""

from __future__ import annotations

import json
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from nbannot.doors.form.entries import (
    ENTRIES,
    SAMPLING,
    Checked,
    made_entries,
)
from nbannot.doors.form.forecast import (
    RUNS_AT_MOST,
    cell_of,
    faults_of,
    forecast,
    model_faults,
    with_models,
)
from nbannot.doors.form.outlets import COPY, NO_PLAN, Outlets, javascript
from nbannot.doors.form.sources import Source, known_tasks, models_here, opened
from nbannot.errors import ConfigError, NbannotError, RunError, RunInterrupted, TaskError
from nbannot.models.registry import split_name
from nbannot.page.blocks import Para
from nbannot.page.fragment import Fragment
from nbannot.report.words import plural
from nbannot.study.config import RunConfig, expand, is_many
from nbannot.study.faults import Fault
from nbannot.study.settings import DEFAULTS, SETTINGS

if TYPE_CHECKING:
    from nbannot.engine.job import Progress
    from nbannot.record.run import Run
    from nbannot.running.sweep import Runs
    from nbannot.study.task import Task

PAUSE_S = 0.25
"""Pause in typing after which the plan is made anew."""
Order = tuple["Task", list[RunConfig], str]
"""The task, the configs, and the cell that does the same."""


class Form(Outlets):
    """A form for runs of a task; show it by naming it on the last line of a cell.

    Made by `configure`. The form lives as long as its kernel; what its runs leave (card, report, the cell that makes
    the same run) is an output of its own below it, which stays in a saved notebook.

    Attributes
    ----------
    widget
        The ipywidgets box, to be put into a layout of one's own.
    last
        The `Run`, or `Runs` of a sweep, that was made last; a stopped run as far as it got; ``None`` before.
    error
        What went wrong last, as a text; "" when nothing did.
    """

    def __init__(self, task: Any, *, codebook: Any = None, **defaults: Any) -> None:
        repeats = defaults.pop("repeats", 1)
        task, stored = opened(task)
        defaults = {**stored, **defaults}
        expand(defaults)
        self.error = ""
        self._task_fault = ""
        self._model_faults: dict[str, str] = {}  # model -> why there is none, as the last plan found
        self._source = Source.of(task, codebook, defaults.get("task_root"))
        self._given = {self._source.words: self._source}
        swept = {name for name in ("fields", "base_url") if is_many(name, defaults.get(name))}
        shown = set(ENTRIES) - swept  # an entry holds one choice of fields, and the servers of one run
        self._kept = {name: value for name, value in defaults.items() if name not in shown}
        self._models: list[tuple[str, str]] = []
        self._stop = threading.Event()
        self._working = threading.Lock()
        self._planning = threading.Lock()
        self._turn = 0
        self._later: threading.Timer | None = None
        fields = Checked(self.task, None if "fields" in self._kept else defaults.get("fields"))
        self._entries = made_entries(defaults, self._source.words, known_tasks(), repeats, fields)
        self._make_outlets()
        given = [name for name in defaults if defaults[name] != DEFAULTS[name]]
        self.widget = self._laid_out(self._entries, self._kept, given)
        self._listen()
        threading.Thread(target=self._look_for_models, daemon=True).start()
        self._changed()

    # ---- what it says ----

    @property
    def task(self) -> Task:
        """The task whose texts are annotated."""
        return self._source.task

    @property
    def settings(self) -> dict[str, Any]:
        """The settings as entered; a list stands for several values. Entries left empty are at their default."""
        settings = dict(self._kept)
        for name, entry in self._entries.items():
            values = entry.values()
            if name in SETTINGS and values:
                settings[name] = values[0] if len(values) == 1 else values
        settings = {name: value for name, value in settings.items() if name == "model" or value is not None}
        times = self._repeats()
        if times > 1:
            first = settings.get("repeat", 1)
            settings["repeat"] = list(range(first, first + times)) if isinstance(first, int) else first
        return {name: settings[name] for name in SETTINGS if name in settings}

    @property
    def config(self) -> RunConfig | list[RunConfig]:
        """The `RunConfig` of the form; a list of them for a sweep.

        Raises
        ------
        ConfigError
            Listing every entry that needs a change.
        """
        configs = self._configs()
        return configs[0] if len(configs) == 1 else configs

    @property
    def cell(self) -> str:
        """The ``%%annotate`` cell that does the same.

        Raises
        ------
        ConfigError
            Listing every entry that needs a change.
        """
        self._configs()
        return cell_of(self._source.words, self.settings, self._source.missing)

    def run(self) -> Run | Runs:
        """Run what the form says and wait for it; as the button Run, which does not wait.

        Raises
        ------
        NbannotError
            As `nbannot.run`; `RunInterrupted` if it was stopped.
        """
        order = self._order()
        with self._busy():
            return self._work(*order)

    def __repr__(self) -> str:
        return f"<Form for '{self.task.name}': {len(self.task)} texts>"

    # ---- how it is made ----

    def _listen(self) -> None:
        for name, entry in self._entries.items():
            if name == "task":
                entry.widget.observe(self._task_changed, "value")
            elif isinstance(entry, Checked):
                self._listen_to_boxes(entry)
            else:
                entry.widget.observe(self._changed, "value")
        self._first.observe(self._show_prompt, "value")
        self._run.on_click(self._on_run)
        self._stop_button.on_click(self._on_stop)
        self._copy.on_click(self._on_copy)

    def _listen_to_boxes(self, entry: Checked) -> None:
        for box in entry.boxes.values():
            box.observe(self._changed, "value")

    def _ipython_display_(self) -> None:
        from IPython.display import display

        bundle = {**self.widget._repr_mimebundle_(), "text/plain": self._twin()}
        display(bundle, raw=True)  # type: ignore[no-untyped-call]
        before = Fragment.of(
            [Para("What the form runs appears here and stays in the saved notebook.", "quiet")]
        )
        self._place = display(before.bundle(), raw=True, display_id=True)  # type: ignore[no-untyped-call]

    def _twin(self) -> str:
        """Return what stands for the form where widgets cannot be shown."""
        try:
            cell = self.cell
        except NbannotError as error:
            cell = f"{error}\n"
        return f"A form for runs of '{self.task.name}'; it needs a running kernel. As a cell:\n\n{cell}"

    # ---- checking, as one types ----

    def _repeats(self) -> int:
        values = self._entries["repeats"].values()
        text = values[0] if len(values) == 1 else ("1" if not values else "")
        return int(text) if text.isdecimal() and 0 < int(text) <= RUNS_AT_MOST else 0

    def _faults(self) -> list[Fault]:
        faults = faults_of(self.settings)
        if self._task_fault:
            faults.insert(0, ("task", self._task_fault))
        wanted = list(dict.fromkeys(map(str, self._entries["model"].values() or [DEFAULTS["model"]])))
        faults += [("model", self._model_faults[name]) for name in wanted if name in self._model_faults]
        if not self._repeats():
            shown = self._entries["repeats"].widget.value.strip()
            faults.append(
                ("repeats", f"repeats must be one integer from 1 to {RUNS_AT_MOST}. Got {shown!r}.")
            )
        if not any(isinstance(box, widgets.Checkbox) and box.value for box in self._boxes()):
            faults = [fault for fault in faults if fault[0] != "fields"]
            faults.append(("fields", "fields: tick at least one field."))
        return faults

    def _boxes(self) -> list[Any]:
        entry = self._entries["fields"]
        return list(entry.boxes.values()) if isinstance(entry, Checked) else []

    def _configs(self) -> list[RunConfig]:
        faults = self._faults()
        if faults:
            number = plural(len(faults), "entry needs", "entries need")
            raise ConfigError("\n".join([f"{number} a change.", *(f"  {what}" for _, what in faults)]))
        return expand(self.settings)

    def _changed(self, change: Any = None) -> None:
        """Check everything, and make the plan anew once the typing pauses."""
        faults = self._faults()
        self._show_faults(faults)
        self._show_address()
        self._show_cell()
        self._turn += 1
        if self._later is not None:
            self._later.cancel()
        self._later = threading.Timer(PAUSE_S, self._plan, [self._turn])
        self._later.daemon = True
        self._later.start()

    def _show_faults(self, faults: Sequence[Fault]) -> None:
        for name, entry in self._entries.items():
            entry.fault("\n".join(what for of, what in faults if of == name))
        if any(name in SAMPLING for name, _ in faults):
            self._sampling.open()
        self._run.disabled = bool(faults) or self._working.locked()
        if faults and not self._working.locked():
            elsewhere = [what for name, what in faults if name not in self._entries]
            self._say(
                ". ".join([f"{plural(len(faults), 'entry needs', 'entries need')} a change", *elsewhere]),
                True,
            )
        elif not self._working.locked():
            self._say("")

    def _show_address(self) -> None:
        """Show the entry for a server's address where a model may have one."""
        wanted = any(split_name(str(m))[0] in ("openai", "ollama") for m in self._entries["model"].values())
        box = self._entries["base_url"]
        box.box.layout.display = None if wanted or box.values() else "none"

    def _task_changed(self, change: Any) -> None:
        word = change["new"].strip()
        try:
            if not word:
                raise TaskError("task: type the name of one, a folder, or a variable that holds one.")
            root = self._kept.get("task_root")
            self._source = self._given.get(word) or Source.of(word.strip('"'), None, root)
            self._task_fault = ""
            self._change_fields()
        except NbannotError as error:
            self._task_fault = str(error)
        self._changed()

    def _change_fields(self) -> None:
        old, new = self._entries["fields"], Checked(self.task, None)
        self._listen_to_boxes(new)
        self._entries["fields"] = new
        for parent in self.widget.children:
            if old.box in getattr(parent, "children", ()):
                parent.children = tuple(new.box if child is old.box else child for child in parent.children)

    def _look_for_models(self) -> None:
        address = self._kept.get("base_url") or self._entries["base_url"].widget.value.strip()
        self._models = models_here(address or None)
        self._entries["model"].widget.options = tuple(name for _, name in self._models)
        self._changed()

    # ---- the plan ----

    def _plan(self, turn: int) -> None:
        """Show what the form would send and take; in a thread of its own.

        While something is wrong there is no plan, and the prompts are those of the entries that are right.
        """
        with self._planning:
            if turn != self._turn:
                return
            wrong = {name for name, _ in self._faults()}
            models = [name for _, name in self._models]
            try:
                if not wrong - {"model"}:  # not while one types: some libraries take seconds to be there
                    found, before = model_faults(expand(self.settings)), self._model_faults
                    self._model_faults = found
                    if found != before:
                        self._show_faults(self._faults())
                    wrong = {name for name, _ in self._faults()}
                configs = expand({name: value for name, value in self.settings.items() if name not in wrong})
                if wrong:
                    made = replace(forecast(self.task, configs[:1]), note=NO_PLAN)
                else:
                    made = with_models(forecast(self.task, configs), self.task, configs, models)
            except NbannotError as error:
                self._plan_box.value = Fragment.of([Para(str(error), "warning")], styled=False).html
                return
            if turn == self._turn:
                self._show_plan(made)

    # ---- running ----

    def _order(self) -> Order:
        """Return what is to be run as the form stands now; what is typed later does not change it."""
        return self.task, self._configs(), self.cell

    def _on_run(self, button: Any) -> None:
        try:
            order = self._order()
        except ConfigError as error:
            self._say(str(error), True)
            return
        threading.Thread(target=self._in_background, args=order, name="nbannot-form", daemon=True).start()

    def _in_background(self, *order: Any) -> None:
        try:
            with self._busy():
                self._work(*order)
        except RunInterrupted:
            return  # it said so itself, and how to go on
        except NbannotError as error:
            self.error = str(error)
            self._say(self.error, True)
        except Exception:  # noqa: BLE001 - nobody stands above this thread: say it, lose nothing
            self.error = traceback.format_exc()
            self._say(self.error, True)

    @contextmanager
    def _busy(self) -> Iterator[None]:
        """Hold the form while it works: one piece of work at a time."""
        if not self._working.acquire(blocking=False):
            raise RunError("the form is running already.\n  Wait for it, or press Stop.")
        self._stop.clear()
        self.error = ""
        self._stop_button.disabled, self._run.disabled = False, True  # in this order: see outlets.KEYS
        try:
            yield
        finally:
            self._working.release()
            self._run.disabled, self._stop_button.disabled = bool(self._faults()), True
            self._turn += 1
            self._plan(self._turn)

    def _work(self, task: Task, configs: Sequence[RunConfig], cell: str) -> Run | Runs:
        from nbannot.running.run import run
        from nbannot.running.sweep import sweep

        self._say("starting …")
        try:
            if len(configs) == 1:
                done: Run | Runs = run(task, configs[0], stop=self._stop, tick=self._tick, say=self._say)
            else:
                done = sweep(task, configs, stop=self._stop, tick=self._tick, say=self._say)
        except RunInterrupted as error:
            self.error = str(error)
            self._show_stopped(task, configs, cell)
            self._say(f"{str(error).splitlines()[0]} Press Continue to go on from there.")
            raise
        except NbannotError as error:
            self.error = str(error)
            self._say(self.error, True)
            raise
        self._show_result(done, cell)
        return done

    def _show_stopped(self, task: Task, configs: Sequence[RunConfig], cell: str) -> None:
        """Show how far a stopped run got; of a sweep nothing, as its finished runs are found again."""
        from nbannot.record.loading import load_run
        from nbannot.running.plan import plan

        if len(configs) > 1:
            return
        try:
            self._show_result(load_run(plan(task, configs[0]).design.folder, task=task), cell)
        except NbannotError:
            return  # stopped before there was anything to show

    def _tick(self, state: Progress) -> None:
        if not self._stop.is_set():
            self._show_progress(state, self.task.name)

    def _on_stop(self, button: Any) -> None:
        self._stop.set()
        self._stop_button.disabled = True
        self._say("stopping …")

    # ---- the cell ----

    def _show_cell(self) -> None:
        if self._cell_box.layout.display == "none":
            return
        try:
            self._cell_box.value = self.cell
        except ConfigError as error:
            self._cell_box.value = str(error)
        self._cell_box.rows = self._cell_box.value.count("\n") + 1

    def _on_copy(self, button: Any) -> None:
        """Show the cell, to be selected and copied by hand, and put it on the clipboard where that is allowed."""
        self._cell_box.layout.display = None
        self._show_cell()
        if self._faults():
            return
        self._say("The cell stands below, and is on the clipboard where the browser allows it.")
        self._clipboard.outputs = javascript(COPY % json.dumps(self.cell))
