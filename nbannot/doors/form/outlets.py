"""What a form shows: its buttons, the plan, the first prompt, the status line, the cell and the results."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from nbannot.displays import progress
from nbannot.displays.cards import run_card
from nbannot.displays.tables import runs_card
from nbannot.doors import recipe
from nbannot.doors.form.entries import SAMPLING, Entry, Folded, title
from nbannot.doors.form.forecast import NOTHING_LEFT, NOTHING_LEFT_OF_SWEEP, Forecast
from nbannot.doors.form.style import CSS
from nbannot.page.blocks import Block, Fold, Para, Verbatim
from nbannot.page.fragment import Fragment
from nbannot.page.html import escape
from nbannot.page.style import whole_style
from nbannot.report.words import plural

if TYPE_CHECKING:
    from nbannot.engine.job import Progress
    from nbannot.record.run import Run
    from nbannot.running.sweep import Runs

HINT = "Several values, separated by commas or chosen together (Ctrl or ⌘), make a sweep; empty means the default."
NO_PLAN = "The plan comes back when every entry is right."
COPY = """(() => {
  const text = %s;
  const byHand = () => {
    const area = document.createElement("textarea");
    area.value = text; document.body.append(area); area.select(); document.execCommand("copy"); area.remove();
  };
  if (navigator.clipboard) navigator.clipboard.writeText(text).catch(byHand); else byHand();
})()"""
"""JavaScript that puts a text on the clipboard, where the notebook lets a display do so."""
KEYS = """(() => {
let last = null, left = null;
document.addEventListener("focusin", ({target}) => {
  last = target.matches(".nbannot-run, .nbannot-stop") ? target : null;
  if (target.matches(".nbannot-form select, .nbannot-form pre, .nbannot-form button"))
    target.setAttribute("data-lm-suppress-shortcuts", "true");
});
new MutationObserver((changes) => {
  const at = document.activeElement;
  for (const {target} of changes)
    if (target.disabled && target === last) left = target.closest(".nbannot-form");
  if (!left) return;
  if (at && at !== document.body && !at.disabled && at !== last) { left = null; return; }
  const next = left.querySelector(".nbannot-run:enabled") || left.querySelector(".nbannot-stop:enabled");
  if (next) { left = null; next.focus(); }
}).observe(document.body, {subtree: true, attributeFilter: ["disabled"]});
})()"""
"""JavaScript that leaves arrows, letters and Space to the form, which Jupyter's command mode would take, and that hands
the focus of Run to Stop and back: a button that is disabled drops it, and people at the keyboard begin anew."""


class Outlets:
    """The widgets that show something, and what they show; a `Form` adds the entries and the work."""

    last: Run | Runs | None = None
    _place: Any = None
    _forecast: Forecast | None = None

    def _make_outlets(self) -> None:
        def button(label: str, kind: str, tooltip: str, icon: str, **more: Any) -> Any:
            made = widgets.Button(
                description=label, tooltip=tooltip, icon=icon, layout={"width": "auto"}, **more
            )
            return made.add_class(f"nbannot-{kind}")

        self._run = button("Run", "run", "Run in the background; the notebook stays free", "play")
        self._run.button_style = "primary"
        self._stop_button = button("Stop", "stop", "Stop; what is done is kept", "stop", disabled=True)
        self._copy = button("Copy cell", "copy", "Show the cell that makes the same run, and copy it", "copy")
        self._plan_box = widgets.HTML().add_class("nbannot-plan")
        self._first = widgets.Dropdown(
            options=[],
            description="First prompt of",
            style={"description_width": "initial"},
            layout={"width": "30em", "max_width": "100%"},
        )
        self._prompt = widgets.HTML().add_class("nbannot-prompt")
        self._status = widgets.HTML().add_class("nbannot-status")
        self._cell_box = widgets.Textarea(
            description="Cell",
            tooltip="Paste it into a cell of its own",
            style={"description_width": "initial"},
            layout={"display": "none", "width": "auto"},
        ).add_class("nbannot-cell")
        self._clipboard = widgets.Output(layout={"height": "0", "overflow": "hidden"})
        self._keys = widgets.Output(layout={"height": "0", "overflow": "hidden"}, outputs=javascript(KEYS))
        self._results = widgets.HTML().add_class("nbannot-results")

    def _laid_out(self, entries: Mapping[str, Entry], kept: Mapping[str, Any], given: Collection[str]) -> Any:
        def row(*names: str) -> Any:
            return widgets.HBox([entries[name].box for name in names]).add_class("nbannot-row")

        self._style = widgets.HTML(f"<style>{whole_style()}{CSS}</style>", layout={"display": "none"})
        also_set = ", ".join(f"{name} = {value}" for name, value in kept.items())
        also = [widgets.HTML(f"<small>also set: {escape(also_set)}</small>")] if also_set else []
        buttons = widgets.HBox([self._run, self._stop_button, self._copy]).add_class("nbannot-row")
        self._sampling = Folded(
            "Sampling: temperature, top p, top k, seed, max tokens",
            row(*SAMPLING),
            opened=bool(set(SAMPLING) & set(given)),
        )
        self._preview = Folded("First prompt, as it would be sent", self._first, self._prompt)
        parts = [
            self._style,
            row("task", "model", "base_url"),
            buttons.add_class("nbannot-bar"),
            self._status,
            self._cell_box,
            self._plan_box,
            self._preview.box,
            title("Texts and fields"),
            row("sample", "limit", "repeats", "fields"),
            title("Asking"),
            widgets.HTML(f"<small>{HINT}</small>"),
            row("prompt_type", "use_examples", "chat_mode", "reasoning"),
            self._sampling.box,
            *also,
            self._clipboard,
            self._keys,
            self._results,
        ]
        return widgets.VBox(parts).add_class("nbannot-form")

    def _show_plan(self, made: Forecast) -> None:
        self._forecast = made
        notes = [Para(note, "warning" if note == made.note else "notice") for note in made.notes()]
        nothing = NOTHING_LEFT if made.runs == 1 else NOTHING_LEFT_OF_SWEEP
        before: list[Block] = [Para(nothing, "notice")] if made.done else []
        shown: list[Block] = [
            *before,
            *([] if made.note == NO_PLAN else [made.facts()]),
            *made.table(),
            *notes,
        ]
        self._plan_box.value = Fragment.of(shown, styled=False).html
        chosen = self._first.value
        self._first.options = list(made.prompts)
        self._first.value = chosen if chosen in made.prompts else next(iter(made.prompts), None)
        self._show_prompt()
        self._run.description = made.deed

    def _show_prompt(self, change: Any = None) -> None:
        prompts = self._forecast.prompts if self._forecast else {}
        text = prompts.get(self._first.value, "")
        self._prompt.value = Fragment.of([Verbatim(text)], styled=False).html if text else ""

    def _show_result(self, done: Run | Runs, cell: str) -> None:
        from nbannot.record.run import Run

        self.last = done
        if isinstance(done, Run):
            card, summary = run_card(done), recipe.summary(done)
            folds = [Fold("Report", _report(done)), Fold("As a cell", [Verbatim(cell)])]
        else:
            card, summary = runs_card(done), f"{plural(len(done), 'run')} made, {len(done.failures)} failed"
            folds = [Fold("As a cell", [Verbatim(cell)])]
        html = card.html + Fragment.of(folds, styled=False).html
        self._say(summary)
        if self._place is None:
            self._results.value = html
        else:
            self._place.update(
                {"text/html": html, "text/plain": f"{card.text}\nAs a cell:\n\n{cell}"}, raw=True
            )

    def _show_progress(self, state: Progress, name: str) -> None:
        self._status.value = f'<div role="status">{progress(state, name).html}</div>'

    def _say(self, line: str, warning: bool = False) -> None:
        shown = (
            Fragment.of([Para(line, "warning" if warning else "plain")], styled=False).html if line else ""
        )
        self._status.value = f'<div role="{"alert" if warning else "status"}">{shown}</div>'


def javascript(source: str) -> tuple[dict[str, Any]]:
    """Return what makes an `Output` run JavaScript."""
    data = {"application/javascript": source, "text/plain": ""}
    return ({"output_type": "display_data", "data": data, "metadata": {}},)


def _report(run: Run) -> Sequence[Any]:
    from nbannot.report.report import report_blocks

    return report_blocks(run)
