"""The entries of the form: one per setting, with its label, and a place beside it for what is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from nbannot.asking.prompts import prompt_types
from nbannot.doors import recipe
from nbannot.page.html import escape
from nbannot.study.checks import REASONING_WORDS
from nbannot.study.config import is_many
from nbannot.study.settings import DEFAULTS, SETTINGS

if TYPE_CHECKING:
    from nbannot.study.task import Task

TYPED = {
    "temperature": "Temperature",
    "top_p": "Top p",
    "top_k": "Top k",
    "seed": "Seed",
    "max_tokens": "Max tokens",
    "sample": "Sample (random)",
    "limit": "Limit (first texts)",
    "repeats": "Repeats",
    "base_url": "Server address",
}
CHOICES: dict[str, tuple[str, tuple[tuple[str, Any], ...]]] = {
    "prompt_type": ("Prompt", ()),
    "use_examples": ("Examples", (("with examples", True), ("without", False))),
    "chat_mode": (
        "Chat mode",
        (
            ("per_query: each question alone", "per_query"),
            ("per_text: one chat per text", "per_text"),
            ("continuous: one chat for all", "continuous"),
        ),
    ),
    "reasoning": (
        "Reasoning",
        (("as the model likes", None), ("on", True), ("off", False), *((w, w) for w in REASONING_WORDS)),
    ),
}
WIDTHS = {
    "task": "22em",
    "model": "30em",
    "base_url": "18em",
    "prompt_type": "11em",
    "use_examples": "11em",
    "chat_mode": "19em",
    "reasoning": "13em",
}

SAMPLING = ("temperature", "top_p", "top_k", "seed", "max_tokens")
"""The entries that are folded away until they are wanted."""
ENTRIES = ("model", *CHOICES, *(name for name in TYPED if name in SETTINGS), "fields")
"""The settings that have an entry in the form."""


class Entry:
    """One setting in the form: a widget with its label, and a place beside it for what is wrong."""

    def __init__(self, name: str, widget: Any) -> None:
        self.name, self.widget = name, widget
        self._fault = widgets.HTML(layout={"display": "none"})
        self.box = widgets.VBox([widget, self._fault]).add_class("nbannot-field").add_class(f"nbannot-{name}")

    def fault(self, what: str) -> None:
        """Show what is wrong beside the entry; "" for nothing."""
        self._fault.value = f'<div class="nbannot-fault" role="alert">{escape(what)}</div>' if what else ""
        self._fault.layout.display = None if what else "none"

    def values(self) -> list[Any]:
        """Return the values that were entered; none for the default."""
        return list(self.widget.value)


class Typed(Entry):
    """An entry in which values are typed, separated by commas."""

    def __init__(self, name: str, label: str, shown: str) -> None:
        widget = widgets.Text(
            value=shown,
            description=label,
            tooltip=recipe.option_help(name) if name in SETTINGS else "",
            style={"description_width": "initial"},
            layout={"width": WIDTHS.get(name, "9.5em"), "max_width": "100%"},
        )
        super().__init__(name, widget)

    def values(self) -> list[Any]:
        """Return the typed values, each read as its setting wants it."""
        parts = [part.strip() for part in self.widget.value.split(",")]
        return [recipe.value_of(self.name, part) if self.name in SETTINGS else part for part in parts if part]


class Combo(Entry):
    """An entry in which a name is typed or chosen from a list, or several are typed, separated by commas."""

    def __init__(
        self, name: str, label: str, shown: str, options: Sequence[str], hint: str, **more: Any
    ) -> None:
        widget = widgets.Combobox(
            value=shown,
            options=tuple(options),
            description=label,
            placeholder="type a name; empty shows the list",
            tooltip=hint,
            style={"description_width": "initial"},
            layout={"width": WIDTHS[name], "max_width": "100%"},
            **more,
        )
        super().__init__(name, widget)

    def values(self) -> list[Any]:
        """Return the names that were typed or chosen."""
        return [part.strip() for part in self.widget.value.split(",") if part.strip()]


class Folded:
    """Entries behind a button that opens and closes them; `box` holds both."""

    def __init__(self, label: str, *children: Any, opened: bool = False) -> None:
        self.button = widgets.ToggleButton(
            value=opened, description=label, layout={"width": "auto"}, tooltip=f"Show or hide: {label}"
        ).add_class("nbannot-fold")
        self.inside = widgets.VBox(list(children))
        self.box = widgets.VBox([self.button, self.inside])
        self.button.observe(self._turned, "value")
        self._turned()

    def open(self) -> None:
        """Open it, so that what is wrong inside can be seen."""
        self.button.value = True

    def _turned(self, change: Any = None) -> None:
        self.button.icon = "caret-down" if self.button.value else "caret-right"
        self.inside.layout.display = None if self.button.value else "none"


class Chosen(Entry):
    """An entry in which one or more known values are chosen."""

    def __init__(
        self, name: str, label: str, options: Sequence[tuple[str, Any]], values: Sequence[Any]
    ) -> None:
        more = [(str(v), v) for v in values if v not in [value for _, value in options]]
        widget = widgets.SelectMultiple(
            options=[*options, *more],
            value=tuple(values),
            rows=3,
            description=label,
            tooltip=f"{recipe.option_help(name)}. Several together make a sweep.",
            style={"description_width": "initial"},
            layout={"width": WIDTHS[name], "max_width": "100%"},
        )
        super().__init__(name, widget)


class Checked(Entry):
    """The fields of the codebook, each with a box to tick."""

    def __init__(self, task: Task, chosen: Sequence[str] | None) -> None:
        columns = None if chosen is None else {task.codebook[name].column for name in chosen}
        self.boxes = {
            f.column: widgets.Checkbox(
                value=columns is None or f.column in columns,
                description=f"{f.name} ({f.type})",
                tooltip=f.column,
                indent=False,
                style={"description_width": "initial"},
                layout={"width": "auto"},
            )
            for f in task.codebook
        }
        names = [f.name for f in task.codebook]
        self._names = {f.column: f.name if names.count(f.name) == 1 else f.column for f in task.codebook}
        widget = widgets.HBox(list(self.boxes.values())).add_class("nbannot-row").add_class("nbannot-checks")
        super().__init__("fields", widget)

    def values(self) -> list[Any]:
        """Return one list of names; nothing where every field is asked."""
        ticked = [self._names[column] for column, box in self.boxes.items() if box.value]
        return [] if len(ticked) == len(self.boxes) else [ticked]


def listed(value: Any, name: str) -> list[Any]:
    """Return the values of a default: several where it is a list of them."""
    return list(value) if is_many(name, value) else [value]


def shown_value(value: Any) -> str:
    """Return a value as it is typed.

    >>> shown_value(0.0), shown_value(None), shown_value(True)
    ('0', 'false', 'true')
    """
    if value is None or isinstance(value, bool):
        return json.dumps(bool(value))
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def title(words: str) -> Any:
    """Return a heading of the form."""
    return widgets.HTML(f'<h4 class="nbannot-title">{words}</h4>')


def made_entries(
    defaults: Mapping[str, Any], task: str, tasks: Sequence[str], repeats: int, fields: Checked
) -> dict[str, Entry]:
    """Return the entries of a form by name; `tasks` are those that can be chosen."""

    def shown(name: str) -> str:
        if name == "repeats":
            return str(repeats) if repeats != 1 else ""
        given = defaults.get(name, DEFAULTS[name])
        if name == "base_url" and isinstance(given, list | tuple):  # several servers of one run
            return "" if is_many(name, given) else ", ".join(given)
        return "" if given is None and name != "seed" else ", ".join(map(shown_value, listed(given, name)))

    made: dict[str, Entry] = {
        "task": Combo(
            "task", "Task", task, tasks, "A bundled task, a variable, or a folder", continuous_update=False
        ),
        "model": Combo(
            "model", "Model", shown("model"), (), f"{recipe.option_help('model')}. Several: a sweep."
        ),
    }
    for name, (label, options) in CHOICES.items():
        known = [(p, p) for p in prompt_types()] if name == "prompt_type" else options
        values = listed(defaults.get(name, DEFAULTS[name]), name)
        made[name] = Chosen(name, label, list(known), values)
    made |= {name: Typed(name, label, shown(name)) for name, label in TYPED.items()}
    made["fields"] = fields
    return made
