"""What is to be asked, how far that is, and what came of it: plain data."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from nbannot.asking.answers import Answer
from nbannot.asking.decisions import CLOSED, DECIDED, Reading, compose_questions
from nbannot.asking.ledger import Usage
from nbannot.asking.option_order import in_order
from nbannot.asking.prompts import Prompt, PromptType, compose, compose_apart, reply_options
from nbannot.asking.request_reply import AnswerMode
from nbannot.models.prices import Prices
from nbannot.study.codebook import Codebook
from nbannot.study.config import RunConfig
from nbannot.study.field import Field


@dataclass(frozen=True)
class Job:
    """Everything that is to be asked: plain data, no model and no folder.

    Attributes
    ----------
    texts
        What is sent, one per id: the text, with metadata in front where that was asked for.
    originals
        The texts themselves, in which quotes are located.
    groups
        Fields that are asked in one call, in an order in which parents come before what depends on them.
    code
        The code of the marks between which every text stands.
    decides
        Whether closed fields go to a decision model.
    together
        Whether the closed fields of a call are scored one by one after the same beginning.
    reading
        How probabilities become labels.
    unasked
        column -> why a field is not asked of any text.
    prices
        What the model's tokens cost; ``None`` where that is not known.
    """

    codebook: Codebook
    config: RunConfig
    kind: PromptType
    ids: Sequence[str]
    texts: Sequence[str]
    originals: Sequence[str]
    groups: tuple[tuple[Field, ...], ...]
    answer_mode: AnswerMode
    calibrated: bool
    max_tokens: int
    code: str = ""
    decides: bool = False
    together: bool = False
    reading: Reading = field(default_factory=Reading)
    unasked: Mapping[str, str] = field(default_factory=dict)
    prices: Prices | None = None

    @property
    def fields(self) -> tuple[Field, ...]:
        """Every field that is asked."""
        return tuple(f for group in self.groups for f in group)


def group_fields(codebook: Codebook, fields: Sequence[Field], how: str) -> tuple[tuple[Field, ...], ...]:
    """Return the fields grouped by call: one each, by section, or all; fields never share a call with their parents."""
    chosen = [f for f in codebook.in_order if f in fields]
    if how == "one":
        return tuple((f,) for f in chosen)
    grouped: dict[tuple[str, int], list[Field]] = {}
    for f in chosen:
        grouped.setdefault((f.section if how == "section" else "", codebook.depth(f)), []).append(f)
    return tuple(tuple(group) for _, group in sorted(grouped.items(), key=lambda item: item[0][1]))


def group_apart(
    codebook: Codebook, fields: Sequence[Field], types: Sequence[str], how: str, others_how: str
) -> tuple[tuple[Field, ...], ...]:
    """Return the fields grouped by call where those of some types have calls of their own.

    Parameters
    ----------
    how, others_how
        How the fields of these types and the others are grouped (see `group_fields`).
    """
    these = [f for f in fields if f.type in types]
    others = [f for f in fields if f.type not in types]
    groups = [*group_fields(codebook, these, how), *group_fields(codebook, others, others_how)]
    return tuple(sorted(groups, key=lambda group: codebook.depth(group[0])))


def used_since(before: Usage, now: Usage, job: Job) -> tuple[int, float]:
    """Return the tokens that were sent and written since then, and the money that they cost.

    An answer that came without its tokens counts a token for each character of a call as long as the others, and the
    longest reply: a budget is rather spent too early than too late. Where the provider says what it has charged for
    every answer, that is the money.
    """

    def more(name: str) -> float:
        return (getattr(now, name) or 0) - (getattr(before, name) or 0)

    sent, written, cached, kept = (
        more(name) for name in ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens")
    )
    if (untold := more("untold")) and not job.decides:
        sent += untold * more("input_chars") / max(1.0, more("calls"))
        written += untold * job.max_tokens
    money = job.prices.of(sent, written, cached, kept) if job.prices else 0.0
    if now.charged is not None and not more("unbilled") and not job.config.prices:
        money = more("charged")
    return math.ceil(sent + written), money


def prompt_for(job: Job, group: Sequence[Field]) -> Prompt:
    """Return the prompt for these fields: questions for a decision model, or a wording."""
    shown = [in_order(f, job.config.option_order, job.config.seed) for f in group]
    if job.decides and group[0].type in DECIDED:
        return compose_questions(shown)
    if job.together and group[0].type in CLOSED:
        return compose_apart(job.kind, shown, use_examples=job.config.use_examples, code=job.code)
    made = compose(job.kind, shown, use_examples=job.config.use_examples, code=job.code)
    # What is scored keeps the codebook's order, as everything does that holds a probability per label.
    return replace(made, options=reply_options(group[0])) if made.options else made


@dataclass
class Progress:
    """How far a run is; the engine writes it, displays read it.

    `total` and `done` count answers (texts x fields); those that turn out not to apply count as done.
    """

    total: int = 0
    done: int = 0
    calls: int = 0
    cached: int = 0
    retries: int = 0
    not_ok: int = 0
    in_flight: int = 0
    started: float = field(default_factory=time.monotonic)
    asking_since: float | None = None
    message: str = ""

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.started

    @property
    def asking_s(self) -> float:
        """Seconds since the model was ready and the first question could be asked."""
        return 0.0 if self.asking_since is None else time.monotonic() - self.asking_since

    @property
    def remaining_s(self) -> float | None:
        """Seconds to go at the pace of what was really asked; ``None`` before anything is known."""
        fresh = self.done * self.calls / (self.calls + self.cached) if self.calls else 0
        return (self.total - self.done) * self.asking_s / fresh if fresh else None


@dataclass
class Outcome:
    """What a session of work left behind.

    Attributes
    ----------
    answers
        column -> one `Answer` per text, ``None`` where the work did not get that far.
    stopped
        Why it ended early; "" when everything was asked.
    offsets
        column -> calibration offset per label.
    out
        How many requests are with a provider that delivers by batch.
    digest
        What identifies the weights at the end of the session, where the server tells it.
    energy_problem
        Why energy was not measured although it should have been; "" where it was.
    notes
        What to tell of servers that came back with another model.
    raised
        What `tick` raised; it ended the work, and is for the caller to raise once everything is kept.
    """

    answers: dict[str, list[Answer | None]]
    progress: Progress
    stopped: str = ""
    interrupted: bool = False
    offsets: dict[str, tuple[float, ...]] = field(default_factory=dict)
    raised: BaseException | None = None
    out: int = 0
    digest: str | None = None
    energy_problem: str = ""
    notes: tuple[str, ...] = ()
