"""What one request uses, from its claim on: tokens, times, its share of the device."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from shared import ids
from shared.clock import Clock
from shared.price import cost
from shared.queue import Claimed
from shared.wire.event import Failed, Usage
from shared.wire.usage import UsageEvent
from worker.batches import Batches, Share

LONGEST_CODE = 64


class Counted(Protocol):
    @property
    def usage(self) -> Usage:
        """What a choice took so far."""


class Known(NamedTuple):
    """Counted before, or in one piece."""

    usage: Usage


class Meter:
    """`ready`: for how many seconds its model had been ready when the request was claimed."""

    def __init__(
        self, claimed: Claimed, ready: float | None, batches: Batches, clock: Clock
    ) -> None:
        self._task = claimed.task
        self._first_attempt = claimed.attempt == 1
        self._clock = clock
        self._batches = batches
        self._claimed_ms = clock.wall_ms()
        self._ready = ready
        self._first_ms: int | None = None
        self._share = Share()
        self._choices: Sequence[Counted] = ()
        self._per_prompt = 1

    def count(self, choices: Sequence[Counted], per_prompt: int = 1) -> None:
        """Whose tokens are the request's; each prompt has `per_prompt` choices."""
        self._choices = choices
        self._per_prompt = per_prompt

    def close(self) -> None:
        """Lets go of the choices: they know the request, and it knows its meter."""
        self._choices = ()

    def begin(self) -> None:
        """The first content is there."""
        if self._first_ms is None and self._first_attempt:
            self._first_ms = self._clock.wall_ms()

    def computing(self) -> AbstractContextManager[None]:
        """While a choice is in the engine."""
        return self._batches.computing(self._task.model, self._share)

    @property
    def usage(self) -> Usage:
        """So far, as the engine counted it; else a token for each piece of a choice."""
        return total([choice.usage for choice in self._choices], self._per_prompt)

    def event(self, ended: Failed | None) -> UsageEvent | None:
        """For the ledger; `ended` is the error it ended in. None: nobody's use."""
        task, origin, used = self._task, self._task.origin, self.usage
        if origin is None:
            return None
        came = ids.wall_ms(origin.request)
        gpu_ms = round(self._share.seconds * 1000)
        joules = self._share.millijoules
        queue_ms = max(0, self._claimed_ms - came) if self._first_attempt else None
        return UsageEvent(
            ts_ms=came,
            request_id=origin.request,
            project=origin.project,
            key=task.key,
            model=task.model,
            adapter=task.adapter.name if task.adapter is not None else None,
            endpoint=origin.endpoint,
            service=task.service,
            tokens_in=used.prompt,
            tokens_cached=used.cached,
            tokens_out=used.completion,
            queue_ms=queue_ms,
            load_ms=self._load_ms(queue_ms),
            first_ms=None if self._first_ms is None else max(0, self._first_ms - came),
            total_ms=max(0, self._clock.wall_ms() - came),
            gpu_ms=gpu_ms,
            millijoules=None if joules is None else round(joules),
            micros=cost(task.price, used.prompt, used.cached, used.completion, gpu_ms),
            status=200 if ended is None else ended.status,
            code=None if ended is None or ended.code is None else plain(ended.code),
            streamed=task.streamed,
        )

    def _load_ms(self, queue_ms: int | None) -> int | None:
        """How much of its wait the model was not ready."""
        if queue_ms is None or self._ready is None:
            return None
        return max(0, queue_ms - int(self._ready * 1000))


def total(usages: Sequence[Usage], per_prompt: int) -> Usage:
    """A prompt counts once, however many choices it has."""
    if len(usages) == 1:
        return usages[0]
    prompts = [
        next((usage for usage in group if usage.prompt), group[0])
        for group in (usages[at : at + per_prompt] for at in range(0, len(usages), per_prompt))
    ]
    return Usage(
        prompt=sum(usage.prompt for usage in prompts),
        completion=sum(usage.completion for usage in usages),
        cached=sum(usage.cached for usage in prompts),
        reasoning=sum(usage.reasoning for usage in usages),
    )


def plain(code: str) -> str:
    """An engine's word, as the ledger can keep it."""
    return code.replace("\x00", "")[:LONGEST_CODE]
