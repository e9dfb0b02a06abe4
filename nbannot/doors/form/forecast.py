"""From entries to settings: what is wrong with them, what they would take, and the cell that says the same."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nbannot.displays.plans import money_words
from nbannot.doors.form.sources import known_without_asking
from nbannot.errors import NbannotError
from nbannot.models.registry import get_model, split_name
from nbannot.page.blocks import Block, Cell, Facts, Grid
from nbannot.page.digits import count, duration
from nbannot.report.words import plural, setting_text
from nbannot.study.config import RunConfig, is_many
from nbannot.study.faults import Fault, faults_in
from nbannot.study.settings import DEFAULTS, SETTINGS
from nbannot.study.toml import as_toml

if TYPE_CHECKING:
    from nbannot.models.prices import Prices
    from nbannot.running.plan import Plan
    from nbannot.study.task import Task

RUNS_AT_MOST = 200
ROWS_SHOWN = 12
NOTHING_LEFT = (
    "Nothing left to ask: this run is complete. Show brings it back; another setting makes another run."
)
NOTHING_LEFT_OF_SWEEP = (
    "Nothing left to ask: these runs are complete. Show brings them back; another setting makes other runs."
)


def faults_of(settings: Mapping[str, Any]) -> list[Fault]:
    """Return everything that is wrong with settings in which a list stands for several values."""
    axes = {name: value for name, value in settings.items() if name in SETTINGS and is_many(name, value)}
    single = {name: value for name, value in settings.items() if name not in axes}
    faults = faults_in(single)
    for name, values in axes.items():
        faults += [fault for value in values for fault in faults_in({name: value})]
        if None in values and DEFAULTS[name] is None:
            faults.append((name, f"{name}: what is left to the model cannot stand among several values."))
    combinations = itertools.product(*axes.values())
    if not faults:
        for values in itertools.islice(combinations, RUNS_AT_MOST):
            faults += faults_in({**single, **dict(zip(axes, values, strict=True))})
        if next(combinations, None) is not None:
            faults.append(
                ("", f"the values combine to more than {RUNS_AT_MOST} runs, too many for one form.")
            )
    return list(dict.fromkeys(faults))


def cell_of(words: str, settings: Mapping[str, Any], missing: str = "") -> str:
    """Return the text of the ``%%annotate`` cell with these settings; those at their default are left out."""
    lines = [f"%%annotate {words}"]
    if missing:
        lines.append(f"# first put the {missing} that the form was given into a variable of this name")
    for name in SETTINGS:
        if name not in settings:
            continue
        value = settings[name]
        if is_many(name, value):
            shown = [list(v) if isinstance(v, tuple) else v for v in value]
            lines.append(f"{name} = {as_toml([False if v is None else v for v in shown])}")
        elif name == "model":
            lines.append(f"model = {as_toml(value)}")
        else:
            lines += RunConfig.of({name: value}).to_toml().splitlines() if value != DEFAULTS[name] else []
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Forecast:
    """What some configs would take, and their first prompts.

    Attributes
    ----------
    first
        The plan of a single run as the model itself tells it, or of one that is complete; ``None`` for a sweep, or
        while the model was not asked.
    note
        What could not be told, and why.
    rows, states
        Of a sweep, for each run: the settings that differ, its calls and its tokens in words; the runs' states.
    """

    runs: int
    least: int
    most: int
    tokens: int
    seconds: float | None
    money: float | None
    money_at_most: float | None
    prices: Prices | None
    prompts: dict[str, str]
    first: Plan | None = None
    note: str = ""
    rows: tuple[tuple[dict[str, Any], str, str], ...] = ()
    states: frozenset[str] = frozenset()

    @property
    def done(self) -> bool:
        """Whether the run, or every run of a sweep, is complete, so that nothing would be asked."""
        if self.runs > 1:
            return self.states == {"complete"}
        return self.first is not None and self.first.state == "complete"

    @property
    def deed(self) -> str:
        """What the button that runs it says."""
        states = self.states if self.first is None else {self.first.state}
        return "Show" if self.done else "Continue" if "can be continued" in states else "Run"

    def table(self) -> list[Block]:
        """Return the runs of a sweep: what differs between them, and the calls and tokens of each."""
        if self.runs < 2:
            return []
        names = list(self.rows[0][0])
        shown = [
            [*(Cell(setting_text(differing[name])) for name in names), Cell(calls), Cell(tokens)]
            for differing, calls, tokens in self.rows[:ROWS_SHOWN]
        ]
        more = f" The first {ROWS_SHOWN} are shown." if self.runs > ROWS_SHOWN else ""
        caption = f"{plural(self.runs, 'run')}, one for each combination.{more}"
        return [Grid([*names, "calls", "tokens"], shown, "l" * len(names) + "rr", caption=caption)]

    def facts(self) -> Facts:
        """Return it as names and values."""
        if self.done and self.first is None:
            return Facts([("runs", f"{count(self.runs)}, complete")])
        if self.first is not None and self.done:
            return Facts(
                [("run", f"{self.first.run_id}, complete"), ("folder", str(self.first.design.folder))]
            )
        calls = _between(self.least, self.most)
        runs = f"{plural(self.runs, 'run')}, " if self.runs > 1 else ""
        time = "no earlier run with this model, prompt and answer mode to estimate from"
        if self.seconds is not None:
            time = f"about {duration(self.seconds)}, as in the last run of this kind"
        money = "unknown: no price of this model is known; set prices to see it"
        if self.first is not None and self.first.design.info.is_local:
            money = "nothing is paid for it: the model runs on this machine"
        if self.money_at_most is not None:
            money = money_words(self.money, self.money_at_most, self.prices)
        pairs = [
            ("calls", f"{runs}{calls} calls, about {count(self.tokens)} tokens to be sent"),
            ("time", time),
            ("money", money),
        ]
        if self.first is not None:
            pairs.append(("run", f"{self.first.run_id}, {self.first.state}"))
        return Facts(pairs)

    def notes(self) -> list[str]:
        """Return what the model says of itself, and what could not be told."""
        notes = self.first.design.info.notes if self.first else ()
        return [*notes, *([self.note] if self.note else [])]


def forecast(task: Task, configs: Sequence[RunConfig]) -> Forecast:
    """Return what the configs would take, as far as it can be said without asking a model."""
    from nbannot.running.plan import Plans, plan_unasked

    plans = Plans(tuple(plan_unasked(task, config) for config in configs))
    kinds = list(dict.fromkeys(config.prompt_type for config in configs))
    prompts = {}
    for kind in kinds:
        one = next(p for p, config in zip(plans, configs, strict=True) if config.prompt_type == kind)
        for columns, messages in one.first_messages.items():
            label = f"{kind}: {columns}" if len(kinds) > 1 else columns
            prompts[label] = "\n".join(message["content"] for message in messages)
    return Forecast(
        runs=len(configs),
        least=sum(p.calls_at_least for p in plans),
        most=sum(p.calls_at_most for p in plans),
        tokens=sum(p.input_tokens for p in plans),
        seconds=plans.total("seconds"),
        money=plans.total("money"),
        money_at_most=plans.total("money_at_most"),
        prices=plans[0].prices,  # a total is of one currency
        prompts=prompts,
        rows=tuple(
            (
                {name: getattr(config, name) for name in plans.differing},
                _between(p.calls_at_least, p.calls_at_most),
                count(p.input_tokens),
            )
            for p, config in zip(plans, configs, strict=True)
        ),
        first=plans[0] if len(plans) == 1 and plans[0].state == "complete" else None,
        states=frozenset(p.state for p in plans) if len(configs) > 1 else frozenset(),
    )


def _between(least: int, most: int) -> str:
    return count(most) if least == most else f"{count(least)} to {count(most)}"


def model_faults(configs: Sequence[RunConfig]) -> dict[str, str]:
    """Return model -> why there is no such model, for those of the configs; nothing is asked and nothing fetched."""
    faults = {}
    for config in {config.model: config for config in reversed(configs)}.values():
        try:
            get_model(config)
        except NbannotError as error:
            first, _, _ = str(error).partition("\n")
            faults[config.model] = first if "did you mean" in first else str(error)  # there is little room
    return faults


def with_models(made: Forecast, task: Task, configs: Sequence[RunConfig], listed: Sequence[str]) -> Forecast:
    """Return the forecast with what the models themselves say, where they say it without being sent anything."""
    from nbannot.running.plan import plan

    try:
        if len(configs) == 1 and known_without_asking(configs[0].model, listed):
            made = replace(made, first=plan(task, configs[0]))
    except NbannotError as error:
        return replace(made, note=str(error))
    if len(configs) == 1 and made.first is None and split_name(configs[0].model)[0] == "local":
        return replace(made, note="The weights are fetched once, when it runs.")
    return made
