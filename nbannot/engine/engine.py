"""The engine: asks every question that applies, many at once, and writes every reply down before it counts.

The only room with asyncio (besides a model's own client). `annotate` runs the work in a thread of its own, so that it
behaves the same in a script, in a terminal and inside a notebook's running event loop, and so that an interrupt
reaches the caller at once.

Order of work: a question is asked of a text when every question it depends on has been answered for that text. Among
those that are ready, the earliest question of the codebook goes first, over all texts, so that servers can reuse the
beginning that its prompts share. A field whose scored answers are calibrated waits until it is known to which texts it
applies; its first 32 texts are the calibration set.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from nbannot.asking.answers import Answer
from nbannot.asking.applies import why_not_asked
from nbannot.asking.ledger import Ledger
from nbannot.asking.prompts import Prompt, reply_text, reprompt
from nbannot.asking.request_reply import Message, Model, Reply, Request
from nbannot.engine.batch import BatchSender, Parked, deliver
from nbannot.engine.drive import Tick, drive
from nbannot.engine.job import Job, Outcome, Progress, group_fields, prompt_for
from nbannot.engine.pace import Halted, handed_out, pool
from nbannot.engine.schedule import Schedule
from nbannot.engine.sending import ASK_AGAIN, Sender, read_safely
from nbannot.engine.servers import ServerGone
from nbannot.errors import NbannotError, RunError
from nbannot.models.endings import is_refused
from nbannot.study.field import Field

__all__ = ["Engine", "Job", "Outcome", "Progress", "Tick", "annotate", "group_fields"]

NO_REPLY = Reply()


class Engine:
    """One session of work on a `Job`."""

    def __init__(
        self,
        job: Job,
        model: Model,
        ledger: Ledger,
        progress: Progress,
        ask_again: bool = False,
        kwh: Callable[[], float] = lambda: 0.0,
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        self.job, self.model, self.ledger, self.progress = job, model, ledger, progress
        self.answers: dict[str, list[Answer | None]] = {f.column: [None] * len(job.ids) for f in job.fields}
        self.offsets: dict[str, tuple[float, ...]] = {}
        self._prompts: dict[tuple[str, ...], Prompt] = {}
        progress.total = len(job.ids) * len(job.fields)
        self.ask_again, self.ready = ask_again, ready
        self.digest: str | None = None
        kind = Sender if job.config.delivery == "now" else BatchSender
        self.sender = kind(job, model, ledger, progress, kwh)
        self._asked: bool | None = None
        self._used = 0.0

    async def run(self) -> None:
        """Ask everything that is not answered yet."""
        await asyncio.gather(self.model.open(), asyncio.to_thread(self.ready))
        self.progress.asking_since = time.monotonic()
        self.sender.servers.opened()
        try:
            if isinstance(self.sender, BatchSender):
                await deliver(self, self.sender, self._passes())
            elif self.job.config.chat_mode == "per_query":
                plan = Schedule(self)
                await pool(plan.next, self._question, self.sender.servers, ahead=True)
            elif self.job.config.chat_mode == "per_text":
                rows = iter(range(len(self.job.ids)))
                await pool(handed_out(rows), self._conversation, self.sender.servers)
            else:
                history: list[Message] = []
                for row in range(len(self.job.ids)):
                    await self._conversation(row, history)
        finally:
            if self._asked is not None:
                self.changes_model(None)
            await self.sender.servers.close()
            self.digest = await self._digest_now()
            await self.model.close()

    def _passes(self) -> Callable[[], Awaitable[None]]:
        """Return what asks every question that is open, for delivery by batch; each call goes on from the last one."""
        if self.job.config.chat_mode == "per_query":
            plan = Schedule(self)

            async def questions() -> None:
                plan.resume()
                await pool(plan.next, self._question, self.sender.servers)

            return questions
        open_rows = list(range(len(self.job.ids)))

        async def conversations() -> None:
            rows, open_rows[:] = list(open_rows), []

            async def one(row: int) -> None:
                try:
                    await self._conversation(row)
                except Parked:
                    open_rows.append(row)

            await pool(handed_out(iter(rows)), one, self.sender.servers)

        return conversations

    async def _digest_now(self) -> str | None:
        """Return what identifies the weights now, where the model's server can be asked again."""
        again = getattr(self.model, "digest_now", None)
        task = asyncio.current_task()
        if again is None or not self.progress.calls or (task is not None and task.cancelling()):
            return None
        try:
            digest: str | None = await again()
        except Exception:  # noqa: BLE001 - it is a question beside the work
            return None
        return digest

    def changes_model(self, deciding: bool | None) -> None:
        """Write down what the model that was asked so far has used, and go on with the other one, or with none."""
        try:
            used = self.sender.kwh()
        except NbannotError:  # nothing is measured: the run says why
            used = 0.0
        if self._asked is not None and used > 0:
            more = max(0.0, used - self._used)
            self.ledger.note(energy_kwh=more, used_by="decider" if self._asked else "text_model")
        self._asked, self._used = deciding, used

    # ---- one text -------------------------------------------------------------------------------------------------

    async def _question(self, item: tuple[Schedule, int, int]) -> None:
        plan, number, row = item
        group = plan.applicable(number, row)
        try:
            answers, reply = await self.ask(row, group, ())
        except Parked:
            plan.park(number, row, group)
            return
        except BaseException:
            plan.lost()
            raise
        plan.answered(number, row, answers, reply)

    async def _conversation(self, row: int, history: list[Message] | None = None) -> None:
        """Ask every question about one text in one conversation; only accepted answers stay in it.

        When the conversation no longer fits the context window, its oldest turns leave it, half of them at a time,
        but never a turn about the text at hand.
        """
        talk: list[Message] = [] if history is None else history
        own = 0
        for group in self.job.groups:
            fields = self.settle(row, group)
            if not fields:
                continue
            answers, reply = await self.ask(row, fields, talk, again=own > 0)
            while reply.finish_reason == "context" and len(talk) > own:
                older = len(talk) - own
                del talk[: max(2, older // 4 * 2)]
                answers, reply = await self.ask(row, fields, talk, again=own > 0)
            for answer in answers.values():
                self.put(row, answer)
            if all(answer.status == "ok" for answer in answers.values()):
                prompt = self.prompt(fields)
                content = prompt.again if own else prompt.about(self.job.texts[row])
                talk.append({"role": "user", "content": content})
                talk.append({"role": "assistant", "content": _said(fields, answers)})
                own += 2

    def settle(self, row: int, group: Sequence[Field]) -> tuple[Field, ...]:
        """Return the fields of the group that are to be asked of a text; give the others their status."""
        fields = []
        for f in group:
            why = self.not_asked(row, f)
            if why is None:
                fields.append(f)
            else:
                self.put(row, why)
        return tuple(fields)

    def not_asked(self, row: int, f: Field) -> Answer | None:
        """Return the answer of a field that is not asked of this text, or ``None`` if it is to be asked."""
        parent = self.answers.get(f.condition.column) if f.condition else None
        above = parent[row] if parent is not None else None
        if parent is not None and above is None:
            raise RuntimeError(f"{f.column} was reached before the field it depends on")
        never = self.job.unasked.get(f.column, "")
        return why_not_asked(f, self.job.originals[row], self.job.codebook, above, never)

    def put(self, row: int, answer: Answer) -> None:
        """Take an answer into the sheet."""
        before, self.answers[answer.column][row] = self.answers[answer.column][row], answer
        if before is not None:
            return  # a conversation that was taken up again
        self.progress.done += 1
        self.progress.not_ok += answer.status not in ("ok", "not_applicable")

    # ---- one question ---------------------------------------------------------------------------------------------

    def prompt(self, group: Sequence[Field]) -> Prompt:
        """Return the prompt for these fields, made once."""
        key = tuple(f.column for f in group)
        if key not in self._prompts:
            self._prompts[key] = prompt_for(self.job, group)
        return self._prompts[key]

    def request(
        self,
        row: int,
        group: Sequence[Field],
        history: Sequence[Message],
        attempt: int = 1,
        problem: str = "",
        again: bool = False,
    ) -> Request:
        """Return the request that asks these fields of one text."""
        config, columns = self.job.config, tuple(f.column for f in group)
        prompt = self._prompts.get(columns) or self.prompt(group)
        content = prompt.again if again else prompt.about(self.job.texts[row])
        if problem and config.retry_strategy == "reprompt":
            content = reprompt(content, problem)
        temperature, seed = config.temperature, config.seed
        if attempt > 1 and config.retry_strategy == "temperature":
            temperature = config.retry_temperature
        if seed is not None:
            seed = (seed + 1_000_003 * (config.repeat - 1) + attempt - 1) % 2**32
        scored = bool(prompt.questions or prompt.endings) or (
            bool(prompt.options) and self.job.answer_mode == "score"
        )
        return Request(
            key=f"{self.job.ids[row]}|{'+'.join(columns)}|{attempt}",
            messages=(*history, {"role": "user", "content": content}),
            shared=len(prompt.before),
            schema=prompt.schema,
            options=prompt.options if scored else (),
            answer_mode="score" if scored else "generate",
            text=self.job.originals[row],
            temperature=temperature,
            top_p=config.top_p,
            top_k=config.top_k,
            seed=seed,
            max_tokens=self.job.max_tokens,
            reasoning=config.reasoning,
            questions=prompt.questions,
            endings=tuple(e for e in prompt.endings if e.column in columns),
        )

    async def ask(
        self, row: int, group: Sequence[Field], history: Sequence[Message], *, again: bool = False
    ) -> tuple[dict[str, Answer], Reply]:
        """Return the first valid answer to each field, asking again as configured, and the last reply."""
        read: dict[str, Answer] = {}
        left: Sequence[Field] = group
        problem, reply = "", NO_REPLY
        attempt, allowed, stored = 0, self.job.config.retries + 1, None
        while left:
            attempt += 1
            request = self.request(row, left, history, attempt, problem, again)
            columns = tuple(f.column for f in left)
            before, stored = stored, self.ledger.find(request, columns, self.job.ids[row], attempt)
            if attempt > allowed and stored is None:
                if before is None or not self.ask_again:
                    break
                allowed = attempt + self.job.config.retries
            self.progress.retries += attempt > 1 and stored is None and self.job.config.delivery == "now"
            reply, answers = await self._one_call(row, left, columns, request, attempt, stored)
            read.update(answers)
            left = [f for f in left if answers[f.column].status in ASK_AGAIN[self.job.config.retry_strategy]]
            if is_refused(reply):
                break  # a filter refuses the same text again, however it is asked
            if request.answer_mode == "score":
                break
            problem = answers[left[0].column].reason if left else ""
        return read, reply

    async def _one_call(
        self,
        row: int,
        group: Sequence[Field],
        columns: tuple[str, ...],
        request: Request,
        attempt: int,
        stored: Reply | None,
    ) -> tuple[Reply, dict[str, Answer]]:
        """Return the reply to one request and what it answers: the stored one of an earlier session, or a new one."""
        if stored is not None:
            self.progress.cached += 1
            return stored, read_safely(group, self.job.originals[row], stored, attempt, self.job.reading)
        return await self.sender.send(row, group, columns, request, attempt)


def _said(group: Sequence[Field], answers: Mapping[str, Answer]) -> str:
    """Return the accepted answers as the model's turn in a conversation."""
    if len(group) == 1:
        return reply_text(group[0], answers[group[0].column].value)
    return json.dumps({f.column: f.to_json(answers[f.column].value) for f in group}, ensure_ascii=False)


def annotate(
    job: Job,
    model: Model,
    ledger: Ledger,
    *,
    tick: Tick | None = None,
    stop: threading.Event | None = None,
    ask_again: bool = False,
    kwh: Callable[[], float] = lambda: 0.0,
    ready: Callable[[], None] = lambda: None,
    every_s: float = 0.1,
    grace_s: float = 5.0,
) -> Outcome:
    """Do the job and return what came of it.

    An interrupt, a dead server, a spent budget or an error in `tick` is in the outcome, not raised.

    Parameters
    ----------
    tick
        Called in the caller's thread about every `every_s` seconds, and once at the end. If it raises, nothing more
        is sent, and what is in flight is waited for.
    stop
        An event that another thread can set to end the work early.
    ask_again
        Give questions whose attempts ended without a valid answer in an earlier session another round.
    kwh
        Returns the energy used so far, for a budget in kWh.
    ready
        Called once, in a thread, while the model gets ready; nothing is asked before it returns.
    grace_s
        How long open requests may take to end after an interrupt.

    Raises
    ------
    NbannotError
        If the model cannot be used at all or the ledger cannot be written.
    """
    progress = Progress()
    engine = Engine(job, model, ledger, progress, ask_again, kwh, ready)
    outcome = Outcome(engine.answers, progress, offsets=engine.offsets)
    error = drive(engine.run, engine.sender.halt, progress, tick, stop, every_s, grace_s, outcome)
    outcome.digest = engine.digest
    if isinstance(engine.sender, BatchSender):
        outcome.out = len(engine.sender.outbox.out)
    outcome.notes = tuple(engine.sender.servers.notes)
    if isinstance(error, ServerGone | Halted):
        outcome.stopped = str(error)
    elif isinstance(error, NbannotError):
        raise error
    elif error is not None:
        raise RunError(f"the run stopped: {type(error).__name__}: {error}") from error
    return outcome
