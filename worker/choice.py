"""The choices of one generation: each survives the engines it wears out."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Literal

import msgspec

from shared import log
from shared.answer import Assembly
from shared.errors import EngineFailed, InvalidValue
from shared.wire.event import Choice, Delta, Finish, Progress, Text, Usage
from worker.engines.base import EngineLost, Generation, Pausable
from worker.request import Request

ENGINE_TRIES = 4
"""Engines that may break on one request, giving nothing, before it fails."""
SUSPICIONS = 2
"""Engines that may break while a request is in them that has got nothing out of them yet.

Whoever had got something before the engine broke is held to be innocent.
"""
MOST_TRIES = 20
"""Engines one request may see break, whatever it has got out of them."""
PAUSE = 0.1
"""Seconds, times the tries so far, for an engine's death to be noticed before it is asked again."""
BROKEN = "The engine broke in the middle of an answer that cannot be continued."

logger = log.get("choice")
decode_body = msgspec.json.Decoder(dict[str, Any]).decode


class Lost(Exception):
    """The engine broke; `asked` tells whether it had been given the request."""

    def __init__(self, message: str, *, asked: bool) -> None:
        super().__init__(message)
        self.asked = asked


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
        self._reason: str | None = None
        self._suspect: asyncio.Lock | None = None
        self._counted: Usage | None = None
        self._silent = True

    @property
    def usage(self) -> Usage:
        """As the engine counted so far, else a token for each piece."""
        if self._counted is not None:
            return self._counted
        return Usage(completion=max(0, self._pieces + len(self._raw)))

    def attach(self, source: Pausable) -> None:
        self._source = source
        self._request.attach(source)

    def text(self, text: str) -> None:
        if self._silent:
            self._speak()
        self._raw.append(text)
        if self._assembly is None:
            self._request.emit(Text(self._choice, text))
        else:
            self._assembly.text(text)

    def delta(self, raw: str | None, delta: bytes, logprobs: bytes) -> None:
        if self._silent:
            self._speak()
        self._broken = self._broken or raw is None
        self._raw.append(raw or "")
        if self._assembly is None:
            self._request.emit(Delta(self._choice, raw, delta, logprobs))
        else:
            self._assembly.delta(delta, logprobs)

    def count(self, usage: Usage) -> None:
        self._counted = usage

    def finish(self, reason: str) -> None:
        self._reason = reason

    async def run(self, kind: Literal["chat", "completion"], body: dict[str, Any]) -> Usage:
        """Generates the choice, going on where the last engine stopped when one breaks."""
        task = self._request.claimed.task
        silent = suspicions = 0
        for tries in range(1, MOST_TRIES + 1):
            before = len(self._raw)
            try:
                usage = await self._try(kind, body, suspicious=suspicions > 0)
            except Lost as lost:
                logger.warning("engine lost", job=task.id, tries=tries, error=str(lost))
                if self._reason is None:
                    if self._broken:
                        raise EngineFailed(BROKEN) from lost
                    if len(self._raw) == before:
                        silent += 1
                        suspicions += lost.asked
                    if silent == ENGINE_TRIES or suspicions == SUSPICIONS:
                        break
                    await asyncio.sleep(PAUSE * tries)
                    continue
                # Only its last counts are missing, and to go on would add text behind the end.
                usage = self.usage
            self._counted = usage
            if self._assembly is None:
                self._request.emit(Finish(self._choice, self._reason or "stop", usage))
            return usage
        raise EngineFailed(f"The engine broke {tries} times on this request.")

    async def _try(
        self, kind: Literal["chat", "completion"], body: dict[str, Any], *, suspicious: bool
    ) -> Usage:
        """One engine's go; raises Lost when it breaks. Suspects go one at a time."""
        self._silent = True
        if suspicious:
            suspect = self._request.suspects
            await suspect.acquire()
            self._suspect = suspect
        try:
            engine = await self._request.engine()
            generation = Generation(
                kind=kind,
                body=body,
                resume="".join(self._raw),
                pieces=self._pieces + len(self._raw),
                adapter=self._request.adapter,
            )
            with self._request.meter.computing():
                return await engine.generate(generation, self)
        except EngineLost as error:
            raise Lost(str(error), asked=self._source is not None) from error
        finally:
            self._clear()
            if self._source is not None:
                self._request.detach(self._source)
                self._source = None

    def _speak(self) -> None:
        """Something came out of the engine that is asked now."""
        self._silent = False
        self._request.meter.begin()
        self._clear()

    def _clear(self) -> None:
        """Lets the next suspect try."""
        suspect, self._suspect = self._suspect, None
        if suspect is not None:
            suspect.release()

    def choice(self) -> Choice:
        """The whole choice of a reply that is not streamed."""
        assert self._assembly is not None
        return self._assembly.choice(self._reason or "stop")


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
