"""The plan of a run: what it would send and what that would take. Nothing is sent to make it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, Unpack, overload

from nbannot.asking.request_reply import AnswerMode, Message, Model, ModelInfo, Reply, Request
from nbannot.engine.job import prompt_for
from nbannot.errors import ModelError
from nbannot.models.addresses import is_loopback
from nbannot.models.batch_offers import Offer
from nbannot.models.prices import Prices
from nbannot.models.registry import address_of, backends, batch_offer, get_model, split_name
from nbannot.page.shown import Shown
from nbannot.record import folder
from nbannot.record.run import COMPLETE
from nbannot.running.corpus_design import design_corpus, duplicates_in_words, load_of_corpus, other_versions
from nbannot.running.design import Design, as_task, design, dev_by_default
from nbannot.running.estimates import (
    CHARS_PER_TOKEN,
    Load,
    Pace,
    earlier_pace,
    load_of,
    longest_request,
    room_for_text,
    still_open,
    too_long_in_words,
)
from nbannot.running.run import run
from nbannot.study.config import RunConfig
from nbannot.study.corpus import Corpus
from nbannot.study.corpus_index import Index
from nbannot.study.keywords import Settings
from nbannot.study.notices import notices_of_coded
from nbannot.study.settings import SETTINGS
from nbannot.study.task import Task
from nbannot.tools.files import read_json
from nbannot.tools.frames import make_frame

if TYPE_CHECKING:
    from nbannot.tools.frames import Frame


@dataclass(frozen=True, repr=False)
class Plan(Shown):
    """What a run would send.

    Attributes
    ----------
    calls_at_least, calls_at_most
        Model calls that are left, without repetitions; conditional fields are asked only where they apply, hence two
        numbers. What an earlier session answered is not asked again.
    input_chars
        Characters that are left to be sent in so many calls, conversations included.
    input_tokens, output_tokens
        About: from a pilot, else from the newest earlier run with the same model, prompt and answer mode; else input
        at four characters each and output unknown (``None``).
    input_tokens_at_most, output_tokens_at_most
        Bounds: every byte a token, every reply as long as ``max_tokens`` allows, every invalid answer asked again as
        often as ``retries`` says.
    seconds
        About, from the same source; ``None`` if there is none.
    money
        About, from input and output tokens and the setting `prices`, else the provider's list price; ``None`` where
        no price or no output tokens are known.
    money_at_most
        The bound that belongs to the bounds of the tokens; ``None`` without prices.
    offer
        What the provider says of its batches; ``None`` where the model has none. `money` is that of requests that are
        answered at once, see `batch_money`.
    unreached
        Why the model could not be asked what it is, e.g. that its server is off; "" when it was. Id and state of the
        run are then those of a model that tells no digest.
    pilot_texts
        How many texts were really sent to make the estimates; 0 without a pilot.
    remarks
        What is to be known of a corpus before it is sent: texts that are there twice, files that changed.
    first_messages
        Column -> messages of the first text exactly as they would be sent (for `per_query`).
    """

    _display: ClassVar[str] = "plan_card"

    design: Design
    calls_at_least: int
    calls_at_most: int
    input_chars: int
    seconds: float | None
    seconds_per_call: float | None
    input_tokens: int
    output_tokens: int | None
    input_tokens_at_most: int
    output_tokens_at_most: int
    money: float | None
    money_at_most: float | None
    pilot_texts: int
    first_messages: dict[str, list[Message]]
    unreached: str = ""
    remarks: tuple[str, ...] = ()
    offer: Offer | None = None

    def batch_money(self, money: float | None) -> float | None:
        """Return what this much costs by batch, where the provider says; `money` or `money_at_most` is asked about."""
        share = self.offer.price if self.offer is not None else None
        return None if share is None or money is None else share * money

    @property
    def run_id(self) -> str:
        """The id that the run will have."""
        return self.design.run_id

    @property
    def prices(self) -> Prices | None:
        """What the model's tokens cost, and where that is from; ``None`` where it is not known."""
        return self.design.job.prices

    @property
    def state(self) -> str:
        """What is there already: "new", "complete" or "can be continued"."""
        stored = read_json(self.design.folder / folder.CONFIG)
        if not stored:
            return "new"
        return "complete" if stored.get("status") == COMPLETE else "can be continued"

    def __repr__(self) -> str:
        return f"<Plan of run {self.run_id}: {self.calls_at_least:,} to {self.calls_at_most:,} calls>"


Made = TypeVar("Made")

SUM_COLUMNS = ("run_id", "state", "calls_at_least", "calls_at_most", "input_tokens", "output_tokens", "seconds",
               "money", "money_at_most")  # fmt: skip


@dataclass(frozen=True, repr=False)
class Plans(Shown, Sequence[Plan]):
    """The plans of a sweep, one per config, with their sum. A run that several configs lead to counts once."""

    _display: ClassVar[str] = "plans_card"

    plans: tuple[Plan, ...]

    @overload
    def __getitem__(self, index: int) -> Plan: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Plan]: ...
    def __getitem__(self, index: int | slice) -> Plan | Sequence[Plan]:
        return self.plans[index]

    def __len__(self) -> int:
        return len(self.plans)

    @property
    def differing(self) -> list[str]:
        """The settings that are not the same in all configs, in the order of `SETTINGS`."""
        configs = [plan.design.config.to_dict() for plan in self.plans]
        return [name for name in SETTINGS if len({repr(config[name]) for config in configs}) > 1]

    def total(self, name: str) -> float | None:
        """Return the sum of a number over all runs; ``None`` where it is not known for one of them."""
        once = {plan.run_id: getattr(plan, name) for plan in self.plans}.values()
        units = {plan.prices.currency for plan in self.plans if plan.prices is not None}
        if name in ("money", "money_at_most") and len(units) > 1:
            return None
        return None if None in once else sum(once)

    @property
    def frame(self) -> Frame:
        """One row per config and a last one with the sum: what differs, calls, tokens, seconds, money."""
        differing = self.differing
        rows = [
            {
                **{name: plan.design.config.to_dict()[name] for name in differing},
                **{name: getattr(plan, name) for name in SUM_COLUMNS},
            }
            for plan in self.plans
        ]
        total = {"run_id": "sum", "state": "", **{name: self.total(name) for name in SUM_COLUMNS[2:]}}
        return make_frame([*rows, total], (*differing, *SUM_COLUMNS))

    def __repr__(self) -> str:
        least, most = self.total("calls_at_least"), self.total("calls_at_most")
        return f"<Plans of {len(self)} runs: {least:,} to {most:,} calls in all>"


def plan(
    task: Any,
    config: RunConfig | Mapping[str, Any] | None = None,
    /,
    *,
    codebook: Any = None,
    pilot: int = 0,
    **settings: Unpack[Settings],
) -> Plan:
    """Return what `run` with the same arguments would send.

    Parameters
    ----------
    task, config, codebook, settings
        As for `run`.
    pilot
        Really send this many texts, into a temporary folder, and estimate time, tokens and money from them.
        0: nothing is sent; the model is asked what it is, no more, and where it cannot be asked the plan says so.

    Raises
    ------
    NbannotError
        As `run` would, before anything is sent.
    """
    wanted = RunConfig.of(config, **settings)
    if isinstance(task, Corpus):
        made, unreached = _designed(lambda model: design_corpus(task, wanted, model)[0], wanted, pilot > 0)
        left = load_of_corpus(made)
        remarks = (
            *task.notices,
            *duplicates_in_words(made),
            *other_versions(made),
            *notices_of_coded(made.gold),
        )
        return _plan_of(
            made.head.task,
            made.head,
            unreached,
            pilot,
            left=left,
            index=task.index(wanted.metadata_columns or ()),
            remarks=remarks,
        )
    whole = as_task(task, wanted, codebook)
    chosen_config = dev_by_default(whole, wanted, asks=False)
    chosen, unreached = _designed(
        lambda model: design(whole, chosen_config, model)[0], chosen_config, pilot > 0
    )
    return _plan_of(whole, chosen, unreached, pilot)


def plan_unasked(task: Task, config: RunConfig) -> Plan:
    """Return the plan of a run without so much as asking the model what it is: at once, wherever it may be."""
    config = dev_by_default(task, config, asks=False)
    return _plan_of(task, design(task, config, _stand_in(config))[0], "it was not asked", 0)


def _plan_of(
    whole: Task,
    chosen: Design,
    unreached: str,
    pilot: int,
    *,
    left: Load | None = None,
    index: Index | None = None,
    remarks: tuple[str, ...] = (),
) -> Plan:
    config, job = chosen.config, chosen.job
    groups = [group for group in job.groups if not all(f.column in job.unasked for f in group)]
    prompts = [prompt_for(job, group) for group in groups]
    left = left or load_of(job, still_open(job, chosen.task, chosen.folder))
    pilot = min(pilot, len(job.ids)) if left.calls_at_most else 0
    pace: Pace | None
    if pilot:
        pace = _piloted(whole, config, pilot)
    else:
        mode = None if unreached and not config.answer_mode else job.answer_mode
        pace = earlier_pace(config, chosen.task.name, mode, chosen.prompt_hash)
    per_char = (pace and pace.tokens_per_char) or 1 / CHARS_PER_TOKEN
    back = pace.output_tokens if pace else None
    room = room_for_text(job, per_char, chosen.info.context_size) if left.calls_at_most else None
    if room is not None:
        n = index.longer_than(room) if index else sum(len(text) > room for text in job.texts)
        of = index.n if index else len(job.texts)
        remarks = (*remarks, *too_long_in_words(n, of, chosen.info.context_size))
    tokens = round(left.chars * per_char), None if back is None else round(back * left.calls_at_most)
    if not left.calls_at_most:
        tokens = 0, 0
    return Plan(
        design=chosen,
        calls_at_least=left.calls_at_least,
        calls_at_most=left.calls_at_most,
        input_chars=left.chars,
        seconds=0.0
        if not left.calls_at_most
        else None
        if pace is None
        else pace.seconds * left.calls_at_most,
        seconds_per_call=None if pace is None else pace.seconds,
        input_tokens=tokens[0],
        output_tokens=tokens[1],
        input_tokens_at_most=left.input_tokens_at_most,
        output_tokens_at_most=left.output_tokens_at_most,
        money=None if tokens[1] is None else _money(job.prices, tokens[0], tokens[1]),
        money_at_most=None
        if job.prices is None
        else job.prices.at_most(
            left.input_tokens_at_most,
            left.output_tokens_at_most,
            longest_request(job, index.longest if index else 0) if job.prices.long_from else 0,
        ),
        pilot_texts=pilot,
        first_messages={
            "+".join(f.column for f in group): [{"role": "user", "content": prompt.about(job.texts[0])}]
            for group, prompt in zip(groups, prompts, strict=True)
        },
        unreached=unreached,
        offer=batch_offer(config),
        remarks=remarks,
    )


def plan_all(task: Any, configs: Sequence[RunConfig], *, codebook: Any = None, pilot: int = 0) -> Plans:
    """Return the plans of several configs as one table with a sum."""
    whole = task if isinstance(task, Corpus) else as_task(task, configs[0], codebook)
    return Plans(tuple(plan(whole, config, pilot=pilot) for config in configs))


def _money(prices: Prices | None, input_tokens: int, output_tokens: int) -> float | None:
    return None if prices is None else prices.of(input_tokens, output_tokens)


def _designed(make: Callable[[Model | None], Made], config: RunConfig, must_answer: bool) -> tuple[Made, str]:
    """Return the design of a run, and why its model could not be asked what it is; a plan needs neither key nor server.

    Only a pilot needs the model itself.
    """
    try:
        if not must_answer and _asks_to_introduce_itself(config):
            return make(_stand_in(config)), "a plan sends nothing, not even a first question"
        return make(None), ""
    except ModelError as error:
        if must_answer or split_name(config.model)[0] not in backends():
            raise
        return make(_stand_in(config)), str(error)


def _asks_to_introduce_itself(config: RunConfig) -> bool:
    """Return whether the model says what it is only in answer to a question: a server of decisions does."""
    return split_name(config.model)[0] == "decide" and getattr(get_model(config), "key", None) is not None


def _stand_in(config: RunConfig) -> _Unreached:
    backend, name = split_name(config.model)
    address = address_of(config)
    here = bool(address) and all(map(is_loopback, str(address).split(", ")))
    return _Unreached(ModelInfo(name, backend, endpoint=address, is_local=here), config)


class _Unreached:
    """Stands in for a model that cannot be asked what it is; it is never asked anything else."""

    parallel = 1

    def __init__(self, info: ModelInfo, config: RunConfig) -> None:
        self._info = info
        mode: AnswerMode = "score" if config.answer_mode == "score" else "generate"
        self.answer_modes: tuple[AnswerMode, ...] = (mode,)
        self.decides = info.backend == "decide"
        kind = backends().get(info.backend)
        if kind is not None and config.delivery != "now" and hasattr(kind.load(), "batches"):
            self.batches = None

    def info(self) -> ModelInfo:
        return self._info

    async def open(self) -> None:
        raise ModelError(f"{self._info.full_name} was not reached.")

    async def ask(self, request: Request) -> Reply:
        raise ModelError(f"{self._info.full_name} was not reached.")

    async def close(self) -> None:
        return None


def _piloted(task: Any, config: RunConfig, texts: int) -> Pace:
    """Return the pace of a run on the first texts."""
    chosen = task.selected(config.to_dict())
    with tempfile.TemporaryDirectory(prefix="nbannot-pilot-") as place:
        done = run(
            chosen,
            config.change(limit=texts, ids=None, split=None, sample=None, sample_by=None, output_root=place),
        )
        calls = max(1, done.timing["inference_count"])
        return Pace.of(done.progress.asking_s, calls, read_json(done.folder / folder.CHARS))
