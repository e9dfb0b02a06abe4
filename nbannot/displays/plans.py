"""Cards of plans: what a run, or the runs of a sweep, would send and take; nothing was sent to know it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nbannot.displays.cards import settings_line
from nbannot.models.batch_offers import READ
from nbannot.models.registry import key_goes
from nbannot.page.blocks import Block, Cell, Facts, Fold, Grid, Heading, Para, Row, Verbatim
from nbannot.page.digits import NONE, count, duration, money
from nbannot.page.fragment import Fragment
from nbannot.report.words import plural, setting_text, where_texts_go
from nbannot.study.personal_data import plural_of

if TYPE_CHECKING:
    from nbannot.models.prices import Prices
    from nbannot.running.plan import Plan, Plans
    from nbannot.study.personal_data import PersonalData

PROMPTS_ON_A_CARD = 8
TEXTS_ON_A_CARD = 20
STATES = {
    "new": "new: nothing has been asked yet",
    "complete": "complete: the same call returns it without asking anything",
    "can be continued": "begun: the same call goes on and asks only for what is missing",
}


def plan_card(plan: Plan) -> Fragment:
    """Return a plan's card: calls, characters, tokens, time, where the texts go, the first prompts as they are."""
    design = plan.design
    info, config = design.info, design.config
    where = {"endpoint": info.endpoint, "is_local": info.is_local}
    many = len(plan.first_messages) > PROMPTS_ON_A_CARD
    prompts = list(plan.first_messages.items())[:PROMPTS_ON_A_CARD]
    blocks: list[Block] = [
        Heading(f"Plan for {design.task.name}: {info.full_name}", 1, f"run {plan.run_id}; {_sent(plan)}"),
        *(Para(note, "notice") for note in info.notes),
        *([Para(_unreached(plan), "notice")] if plan.unreached else []),
        *(Para(remark, "notice") for remark in plan.remarks),
        Facts(
            [
                ("calls", _calls(plan)),
                (
                    "to be sent",
                    f"{count(plan.input_chars)} characters, about {count(plan.input_tokens)} tokens; "
                    f"at most {count(plan.input_tokens_at_most)}, and {count(plan.output_tokens_at_most)} in return",
                ),
                ("time", _time(plan)),
                *(
                    []
                    if plan.money_at_most is None
                    else [
                        (
                            "money",
                            f"{money_words(plan.money, plan.money_at_most, plan.prices)}{_source(plan)}",
                        )
                    ]
                ),
                *([("as a batch", words)] if (words := batch_words(plan)) else []),
                ("texts go", where_texts_go(where)),
                *([("personal data", design.personal_data)] if design.personal_data else []),
                *([("key", key)] if (key := key_goes(config)) else []),
                ("settings", settings_line(config.to_dict())),
                ("state", STATES.get(plan.state, plan.state)),
                ("folder", str(design.folder)),
            ]
        ),
        *(
            Fold(f"First prompt of {columns}", [_message(m) for m in messages])
            for columns, messages in prompts
        ),
    ]
    if many:
        blocks.append(Para(f"… and {len(plan.first_messages) - PROMPTS_ON_A_CARD} more prompts.", "quiet"))
    return Fragment.of(blocks)


def plans_card(plans: Plans) -> Fragment:
    """Return the plans of a sweep as one table: what differs, what each would take, and the sum."""
    differing = plans.differing
    rows: list[Row] = [
        [
            Cell(plan.run_id, "strong"),
            *(setting_text(plan.design.config.to_dict()[name]) for name in differing),
            plan.state,
            *_taken(plan.calls_at_least, plan.calls_at_most, plan.input_tokens, plan.seconds),
            *_paid(plan.money, plan.money_at_most),
        ]
        for plan in plans
    ]
    total = {name: plans.total(name) for name in SUMMED}
    rows.append(
        [
            Cell("sum", "strong"),
            *([""] * (len(differing) + 1)),
            *_taken(total["calls_at_least"], total["calls_at_most"], total["input_tokens"], total["seconds"]),
            *_paid(total["money"], total["money_at_most"]),
        ]
    )
    header = [
        "run_id",
        *differing,
        "state",
        "calls",
        "tokens, about",
        "time, about",
        "money, about",
        "money, at most",
    ]
    blocks: list[Block] = [
        Heading("Plan of a sweep", 1, f"{plural(len(plans), 'run')}"),
        Grid(header, rows, "l" + "l" * len(differing) + "lrrrrr"),
    ]
    reasons = dict.fromkeys(_unreached(plan) for plan in plans if plan.unreached)
    return Fragment.of([*blocks, *(Para(words, "notice") for words in reasons)])


def personal_data_card(data: PersonalData) -> Fragment:
    """Return what looks like personal data: how many of which kind, and in which texts; never the data themselves."""
    kinds = {text_id: dict(kinds) for text_id, kinds in data.by_text.items()}
    for text_id, n in data.names.by_text.items() if data.names else ():
        kinds.setdefault(text_id, {})["name of a person"] = n
    rows: list[Row] = [
        [text_id, ", ".join(f"{n:,} {plural_of(kind, n)}" for kind, n in of.items())]
        for text_id, of in list(kinds.items())[:TEXTS_ON_A_CARD]
    ]
    left = len(kinds) - len(rows)
    words = data.words
    if not data.by_text:
        words = f"Nothing that has the shape of personal data. {data.not_looked_for} {words}".strip()
    return Fragment.of(
        [
            Heading("Personal data", 1, f"{plural(data.n_texts, 'text')} looked at on this machine"),
            Para(words),
            *([Grid(["text", "seems to hold"], rows, "ll")] if rows else []),
            *([Para(f"… and {plural(left, 'more text', 'more texts')}.", "quiet")] if left else []),
        ]
    )


SUMMED = ("calls_at_least", "calls_at_most", "input_tokens", "seconds", "money", "money_at_most")


def _taken(least: float | None, most: float | None, tokens: float | None, seconds: float | None) -> list[str]:
    calls = count(int(most or 0)) if least == most else f"{count(int(least or 0))} to {count(int(most or 0))}"
    return [
        calls,
        NONE if tokens is None else count(int(tokens)),
        NONE if seconds is None else duration(seconds),
    ]


def _paid(about: float | None, at_most: float | None) -> list[str]:
    return [NONE if value is None else f"{value:.4g}" for value in (about, at_most)]


def money_words(about: float | None, at_most: float, prices: Prices | None = None) -> str:
    """Return what a run costs, in the unit of the prices: an estimate where there is one, and the bound.

    >>> money_words(0.12, 1.5), money_words(None, 1.5)
    ('about 0.12; at most 1.50', 'at most 1.50; a pilot says about how much')
    """
    currency = prices.currency if prices else ""
    most = f"at most {money(at_most, currency)}"
    return (
        f"{most}; a pilot says about how much" if about is None else f"about {money(about, currency)}; {most}"
    )


def _source(plan: Plan) -> str:
    """Return where the prices come from, unless it is the user who gave them and there is nothing to add."""
    prices = plan.prices
    told = prices is not None and (prices.currency or prices.long_from)
    return f" ({prices.source})" if prices is not None and told else ""


def batch_words(plan: Plan) -> str:
    """Return what a batch of the provider costs and where that is said; "" where there is nothing to say."""
    offer, chosen = plan.offer, plan.design.config.delivery == "batch"
    if offer is None or (offer.price is None and not chosen):
        return ""
    how = "the labels come later" if chosen else 'the labels come later, with delivery = "batch"'
    if offer.price is None:
        return f"at what price is not known here; {how}"
    said = f"{100 * offer.price:g} % of the price, says {offer.name} ({READ}: {offer.source}); {how}"
    at_most = plan.batch_money(plan.money_at_most)
    return (
        said
        if at_most is None
        else f"{money_words(plan.batch_money(plan.money), at_most, plan.prices)}; {said}"
    )


def _unreached(plan: Plan) -> str:
    reason = plan.unreached.splitlines()[0]
    return (
        f"The model was not reached to be asked what it is ({reason.rstrip('.')}). Calls and bounds hold all the same; "
        "the run gets another id where a model tells the digest of its weights."
    )


def _sent(plan: Plan) -> str:
    if not plan.pilot_texts:
        return "nothing was sent"
    return f"{plural(plan.pilot_texts, 'text')} sent as a pilot"


def _calls(plan: Plan) -> str:
    least, most = plan.calls_at_least, plan.calls_at_most
    if least == most:
        return count(most)
    return f"{count(least)} to {count(most)}: conditional fields are asked only where they apply"


def _time(plan: Plan) -> str:
    if not plan.calls_at_most:
        return "none: everything is answered"
    if plan.seconds is None or plan.seconds_per_call is None:
        return "no earlier run with this model, prompt and answer mode to estimate from"
    last = "the pilot" if plan.pilot_texts else "the last run of this kind"
    return f"about {duration(plan.seconds)}, at {duration(plan.seconds_per_call)} a call as in {last}"


def _message(message: Mapping[str, str]) -> Block:
    who = "" if message["role"] == "user" else f"[{message['role']}]\n"
    return Verbatim(who + message["content"])
