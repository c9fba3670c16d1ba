"""What the scheduler wants done. The loop performs it and answers with events."""

from __future__ import annotations

from typing import Literal

import msgspec

from shared.errors import HubError, InvalidValue, ModelNotFound, ModelUnavailable
from shared.wire.task import Class
from worker import reason
from worker.residency import Cause
from worker.room import Room

Code = Literal["too_large", "failed", "expired", "pinned_over_budget", "gone"]


class Load(msgspec.Struct, frozen=True, tag=True):
    """Start the engine. Answer: Loaded or LoadFailed."""

    model: str
    why: str


class Wake(msgspec.Struct, frozen=True, tag=True):
    """Answer: Woken or Died."""

    model: str
    why: str


class Evict(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """The decision to let a model go: from now on it drains. Stop or Sleep follows; no answer."""

    model: str
    cause: Cause
    why: str
    target: str = ""
    """The model that room is made for."""
    room: Room | None = None
    sleeps: bool = False


class Keep(msgspec.Struct, frozen=True, tag=True):
    """An eviction is taken back before its engine was touched; no answer."""

    model: str
    why: str


class Sleep(msgspec.Struct, frozen=True, tag=True):
    """Nobody is served any more. Answer: Slept or Died."""

    model: str


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Nobody is served any more: stop the process group, wait for its bytes. Answer: Stopped."""

    model: str


class Admit(msgspec.Struct, frozen=True, tag=True):
    """Take up to this many waiting requests; each is answered by Ended.

    A request that could not be taken after all is an Ended too.
    """

    model: str
    count: int


class Refuse(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Answer those who wait for this model with an error.

    All of them, or those of one class that came at `before` or earlier, which the loop then
    follows up with a Waiting event.
    """

    model: str
    code: Code
    why: str
    retry_after: float | None = None
    service: Class | None = None
    before: float | None = None


class Hold(msgspec.Struct, frozen=True, tag=True):
    """Nothing to do: what those who wait for this model wait for, said once per reason."""

    model: str
    code: str
    why: str


class Forget(msgspec.Struct, frozen=True, tag=True):
    """The model was withdrawn, and nothing of it is left; no answer."""

    model: str


Effect = Load | Wake | Evict | Keep | Sleep | Stop | Admit | Refuse | Hold | Forget

ERRORS: dict[Code, type[HubError]] = {
    "too_large": InvalidValue,
    "pinned_over_budget": InvalidValue,
    "gone": ModelNotFound,
}
"""Of refusals that asking again later will not change."""


def error(refuse: Refuse) -> HubError:
    """What those are told who are refused."""
    kind = ERRORS.get(refuse.code, ModelUnavailable)
    return kind(refuse.why, param="model", retry_after=refuse.retry_after)


def gone(model: str) -> ModelNotFound:
    """What those are told who come for a model that was forgotten."""
    return ModelNotFound(reason.gone(model), param="model")
