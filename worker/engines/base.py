"""What the worker asks of every engine.

An engine knows nothing of jobs, gateways or Redis: it turns one Generation into calls on one Sink.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NoReturn, Protocol, runtime_checkable

import msgspec

from shared.errors import UnsupportedValue
from shared.wire.event import Usage, Vectors
from shared.wire.node import LoadProgress


class EngineLost(Exception):
    """The engine went away in the middle of a request; what the sink has got still stands."""


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger gave an engine, in bytes, on each device that it runs on."""

    device: str = ""
    """What CUDA_VISIBLE_DEVICES is set to; empty: the CPU."""
    total: int
    """The device's memory."""
    granted: int
    """What the engine may take of it, all in all."""
    kv: int
    """Of that, what is for the KV cache."""


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """One choice of one request.

    `body` is the client's JSON with nulls removed and the model's defaults filled in, `n` taken
    out and `seed` set where the request has one. `prompt` of a completion is one string or one
    list of token ids. `resume` is the engine text that earlier attempts produced: generation goes
    on behind it, and none of it is given to the sink again. It came in `pieces` calls of the sink,
    which is its number of tokens where the engine sends one token at a time. `adapter` is the
    name of a loaded adapter to generate with, None for the base model itself.
    """

    kind: Literal["chat", "completion"]
    body: dict[str, Any]
    resume: str = ""
    pieces: int = 0
    adapter: str | None = None


class Pausable(Protocol):
    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Sink(Protocol):
    """Takes what an engine generates, in order, without blocking."""

    def attach(self, source: Pausable) -> None:
        """Called once the request is on its way: how to hold the engine's output back."""

    def text(self, text: str) -> None:
        """More content. `text` is never empty."""

    def delta(self, raw: str | None, delta: bytes, logprobs: bytes) -> None:
        """Anything else: tool calls, reasoning, content with logprobs (JSON, see event.Delta).

        `raw` None: the engine's own text is not known, so the choice cannot be resumed.
        """

    def count(self, usage: Usage) -> None:
        """What the choice took so far, `resume` included as completion; told where it is known."""

    def finish(self, reason: str) -> None:
        """The choice ended: stop, length, tool_calls or content_filter."""


class Engine(Protocol):
    """A running or startable engine for one base model."""

    can_sleep: bool
    """Whether `sleep` gives the device's memory back and `wake` is faster than a start."""
    can_adapt: bool
    """Whether adapters can be loaded and unloaded while requests run."""

    async def start(self) -> None:
        """Returns when requests are answered; raises EngineFailed with the engine's last words."""

    async def stop(self) -> None:
        """Ends the engine and everything it started. Idempotent."""

    @property
    def alive(self) -> bool:
        """Whether requests can be sent now."""

    async def ended(self) -> None:
        """Returns as soon as the engine is not alive any more."""

    def pids(self) -> list[int]:
        """Every living process of the engine, for measuring its memory; [] for a remote one."""

    def progress(self) -> LoadProgress | None:
        """How far a start, a sleep or a wake is; None while there is none. Asked each second."""

    async def sleep(self) -> None:
        """Give the device's memory back and keep the weights in host memory. Idempotent.

        Nothing may be generating. An engine that sleeps is not `alive`. Raises EngineFailed, and
        the engine must be stopped then.
        """

    async def wake(self) -> None:
        """Returns when requests are answered again. Idempotent; raises as `sleep` does."""

    async def load_adapter(self, name: str, path: str) -> None:
        """Make the adapter folder at `path` available as `name`, while requests run. Idempotent.

        A name means one version of the weights for ever: a new version has a new name and path.
        Raises InvalidValue for an adapter that does not fit this engine, EngineLost.
        """

    async def unload_adapter(self, name: str) -> None:
        """Forget the adapter; no request may be using it. Idempotent; raises EngineLost."""

    async def generate(self, generation: Generation, sink: Sink) -> Usage:
        """Runs to the end of the choice. Cancelling the call cancels the work in the engine.

        Raises HubError for what the caller did wrong or the engine refused, EngineLost when the
        engine broke. Usage counts what the whole choice took, `resume` included as completion.
        """

    async def embed(self, inputs: list[str] | list[list[int]], dimensions: int | None) -> Vectors:
        """One unit-length vector per input, in order."""


@runtime_checkable
class Granted(Protocol):
    """An Engine that is told before a start what it may take of its device."""

    def grant(self, bytes: int) -> None:
        """All in all, from its next start on."""


@runtime_checkable
class Successive(Protocol):
    """An Engine that begins a new process for new adapters: several are as dear as one."""

    may_double: Callable[[], bool]
    """Whether the device has room for two processes at once now; then no request waits."""

    async def load_adapters(self, paths: Mapping[str, str]) -> Mapping[str, Exception]:
        """`load_adapter` for each; the errors of those that were not loaded. Raises EngineLost.

        For none at all: those that were unloaded give their memory back; raises EngineFailed, too.
        An engine that does not run gets them with its start.
        """

    async def single(self) -> None:
        """Returns when one process is left."""


class Unwatched:
    """The part of an Engine whose start cannot be watched, or is over at once."""

    def progress(self) -> LoadProgress | None:
        return None


class Sleepless:
    """The part of an Engine that cannot sleep."""

    can_sleep = False

    async def sleep(self) -> None:
        self._sleepless()

    async def wake(self) -> None:
        self._sleepless()

    def _sleepless(self) -> NoReturn:
        raise UnsupportedValue("The engine of this model cannot sleep.", param="model")


class Unadaptable:
    """The part of an Engine that takes no adapters."""

    can_adapt = False

    async def load_adapter(self, name: str, path: str) -> None:
        self._unadaptable()

    async def unload_adapter(self, name: str) -> None:
        self._unadaptable()

    def refuse_adapter(self, generation: Generation) -> None:
        """Raises UnsupportedValue where a generation asks for an adapter."""
        if generation.adapter is not None:
            self._unadaptable()

    def _unadaptable(self) -> NoReturn:
        raise UnsupportedValue("The engine of this model takes no adapters.", param="model")
