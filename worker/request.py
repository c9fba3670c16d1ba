"""One job while it runs: its choices, what they produced so far, and the items that go back."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Literal

import msgspec

from shared import log
from shared.clock import Clock
from shared.errors import EngineFailed, HubError, InvalidValue, RequestTimeout
from shared.queue import Claimed
from shared.replies import ReplyWriter
from shared.wire.event import (
    LAST,
    Answer,
    Choice,
    Delta,
    Done,
    Entry,
    Finish,
    Item,
    Position,
    Progress,
    Started,
    Text,
    Usage,
    Where,
)
from worker.answer import Assembly
from worker.engines.base import EngineLost, Generation, Pausable
from worker.residents import Residents

ENGINE_TRIES = 4
"""Engines one request may wear out before it fails."""
WAIT_FOR_POSITION = 5.0
"""Seconds a later attempt waits to hear how far the reply got; silence means nobody wants it."""

NOTHING = Progress("", 0)
BROKEN = "The engine broke in the middle of an answer that cannot be continued."

Reason = Literal["cancelled", "lost", "released"]
logger = log.get("request")
decode_body = msgspec.json.Decoder(dict[str, Any]).decode


class Request:
    """Owned by Lane; run by one of the functions below."""

    def __init__(
        self,
        claimed: Claimed,
        worker: str,
        writer: ReplyWriter,
        residents: Residents,
        clock: Clock,
    ) -> None:
        self.claimed = claimed
        self.task: asyncio.Task[None] | None = None
        self.reason: Reason | None = None
        self.over = False
        self.residents = residents
        self._writer = writer
        self._clock = clock
        self._worker = worker
        self._index = 0
        self._sources: set[Pausable] = set()
        self._flows = True
        self._position: asyncio.Future[Position] = asyncio.get_running_loop().create_future()

    @property
    def streamed(self) -> bool:
        return self.claimed.task.streamed

    def emit(self, item: Item) -> None:
        """Sends the next item of the reply."""
        task = self.claimed.task
        entry = Entry(task.stream, self.claimed.attempt, self._index, item)
        self._index += 1
        self.over = isinstance(item, LAST)
        self._writer.put(task.gateway, entry)

    def stop(self, reason: Reason) -> None:
        """Ends the run from outside; the first reason given stands."""
        if self.reason is None and self.task is not None:
            self.reason = reason
            self.task.cancel()

    def set_flow(self, flows: bool) -> None:
        """Holds the engine's output back while the gateway is behind."""
        self._flows = flows
        for source in self._sources:
            if flows:
                source.resume_reading()
            else:
                source.pause_reading()

    def attach(self, source: Pausable) -> None:
        self._sources.add(source)
        if not self._flows:
            source.pause_reading()

    def detach(self, source: Pausable) -> None:
        self._sources.discard(source)

    def tell_position(self, position: Position) -> None:
        if position.attempt == self.claimed.attempt and not self._position.done():
            self._position.set_result(position)

    async def position(self) -> Position:
        """How far the reply got in earlier attempts; raises CancelledError when nobody waits."""
        task = self.claimed.task
        if self.claimed.attempt == 1:
            return Position(task.id, 1, 0, {})
        self._writer.put(task.gateway, Entry(task.stream, self.claimed.attempt, -1, Where()))
        try:
            async with asyncio.timeout(WAIT_FOR_POSITION):
                position = await self._position
        except TimeoutError:
            logger.info("nobody waits for this job", job=task.id)
            self.reason = self.reason or "cancelled"
            raise asyncio.CancelledError from None
        self._index = position.index
        return position

    async def give_up(self) -> None:
        """Ends a job that was tried too often."""
        await self.position()
        tries = self.claimed.attempt - 1
        self.emit(EngineFailed(f"The request failed {tries} times; giving up.").failed())

    async def answer(self, work: Coroutine[Any, Any, None]) -> None:
        """Awaits `work` within the deadline and turns every error into the reply's last item."""
        task = self.claimed.task
        left = (task.deadline_ms - self._clock.wall_ms()) / 1000
        try:
            async with asyncio.timeout(max(0.0, left)):
                await work
        except TimeoutError:
            self.emit(RequestTimeout("The request took longer than allowed.").failed())
        except HubError as error:
            self.emit(error.failed())
        except Exception as error:
            logger.exception("request failed", job=task.id)
            self.emit(EngineFailed(f"Internal error: {type(error).__name__}.").failed())


class ChoiceRun:
    """One choice: a Sink that survives the engines it wears out."""

    def __init__(self, request: Request, choice: int, before: Progress) -> None:
        self._request = request
        self._choice = choice
        self._raw = [before.text]
        self._pieces = before.pieces - 1
        self._source: Pausable | None = None
        self._broken = False
        self._assembly = None if request.streamed else Assembly()
        self._reason = "stop"

    def attach(self, source: Pausable) -> None:
        self._source = source
        self._request.attach(source)

    def text(self, text: str) -> None:
        self._raw.append(text)
        if self._assembly is None:
            self._request.emit(Text(self._choice, text))
        else:
            self._assembly.text(text)

    def delta(self, raw: str | None, delta: bytes, logprobs: bytes) -> None:
        self._broken = self._broken or raw is None
        self._raw.append(raw or "")
        if self._assembly is None:
            self._request.emit(Delta(self._choice, raw, delta, logprobs))
        else:
            self._assembly.delta(delta, logprobs)

    def finish(self, reason: str) -> None:
        self._reason = reason

    async def run(self, kind: Literal["chat", "completion"], body: dict[str, Any]) -> Usage:
        """Generates the choice, going on where the last engine stopped when one breaks."""
        task = self._request.claimed.task
        for tries in range(1, ENGINE_TRIES + 1):
            engine = await self._request.residents.engine(task.model)
            generation = Generation(
                kind=kind,
                body=body,
                resume="".join(self._raw),
                pieces=self._pieces + len(self._raw),
            )
            try:
                usage = await engine.generate(generation, self)
            except EngineLost as error:
                logger.warning("engine lost", job=task.id, tries=tries, error=str(error))
                if self._broken:
                    raise EngineFailed(BROKEN) from error
                continue
            finally:
                if self._source is not None:
                    self._request.detach(self._source)
                    self._source = None
            if self._assembly is None:
                self._request.emit(Finish(self._choice, self._reason, usage))
            return usage
        raise EngineFailed(f"The engine broke {ENGINE_TRIES} times on this request.")

    def choice(self) -> Choice:
        """The whole choice of a reply that is not streamed."""
        assert self._assembly is not None
        return self._assembly.choice(self._reason)


def spread(kind: Literal["chat", "completion"], data: bytes) -> tuple[list[dict[str, Any]], int]:
    """One engine body per choice, and how many choices a prompt has.

    Nulls are dropped, prompts and `n` spread out, seeds told apart.
    """
    body = {name: value for name, value in decode_body(data).items() if value is not None}
    count: int = body.pop("n", 1)
    prompts: list[Any] = [None]
    if kind == "completion":
        prompt = body.pop("prompt", "")
        several = isinstance(prompt, list) and not (prompt and isinstance(prompt[0], int))
        prompts = prompt if several else [prompt]
        if not prompts:
            raise InvalidValue("prompt must not be an empty list", param="prompt")
    bodies = []
    for prompt in prompts:
        for number in range(count):
            one = dict(body) if prompt is None else {**body, "prompt": prompt}
            if "seed" in body:
                one["seed"] = body["seed"] + number
            bodies.append(one)
    return bodies, count


def total(usages: list[Usage], choices_per_prompt: int) -> Usage:
    """A prompt counts once, however many choices it has."""
    prompts = usages[::choices_per_prompt]
    return Usage(
        prompt=sum(usage.prompt for usage in prompts),
        completion=sum(usage.completion for usage in usages),
        cached=sum(usage.cached for usage in prompts),
        reasoning=sum(usage.reasoning for usage in usages),
    )


async def together(work: list[Coroutine[Any, Any, Usage]]) -> list[Usage]:
    """Runs all at once; the first error cancels the others and is raised as it is."""
    if len(work) == 1:
        return [await work[0]]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def generate(request: Request, kind: Literal["chat", "completion"]) -> None:
    task = request.claimed.task
    position = await request.position()
    if position.broken:
        raise EngineFailed(BROKEN)
    if position.index == 0:
        request.emit(Started())
    bodies, per_prompt = spread(kind, task.body)
    defaults = request.residents.defaults(task.model)
    before = [position.choices.get(choice, NOTHING) for choice in range(len(bodies))]
    runs = {
        choice: ChoiceRun(request, choice, progress)
        for choice, progress in enumerate(before)
        if progress.usage is None
    }
    usages = await together(
        [run.run(kind, {**defaults, **bodies[choice]}) for choice, run in runs.items()]
    )
    known = dict(zip(runs, usages, strict=True))
    usage = total(
        [known.get(choice) or progress.usage or Usage() for choice, progress in enumerate(before)],
        per_prompt,
    )
    if request.streamed:
        request.emit(Done(usage))
    else:
        request.emit(Answer([run.choice() for run in runs.values()], usage))


async def chat(ctx: dict[str, Any]) -> None:
    """arq function: one chat completion."""
    request: Request = ctx["request"]
    await request.answer(generate(request, "chat"))


async def completion(ctx: dict[str, Any]) -> None:
    """arq function: one text completion."""
    request: Request = ctx["request"]
    await request.answer(generate(request, "completion"))


async def embedding(ctx: dict[str, Any]) -> None:
    """arq function: the embeddings of one request."""
    request: Request = ctx["request"]
    await request.answer(embed(request))


async def embed(request: Request) -> None:
    position = await request.position()
    task = request.claimed.task
    if position.index == 0:
        request.emit(Started())
    body = decode_body(task.body)
    given = body["input"]
    inputs = given if isinstance(given, list) else [given]
    if inputs and isinstance(inputs[0], int):
        inputs = [inputs]
    for tries in range(1, ENGINE_TRIES + 1):
        engine = await request.residents.engine(task.model)
        try:
            request.emit(await engine.embed(inputs, body.get("dimensions")))
        except EngineLost as error:
            logger.warning("engine lost", job=task.id, tries=tries, error=str(error))
        else:
            return
    raise EngineFailed(f"The engine broke {ENGINE_TRIES} times on this request.")
