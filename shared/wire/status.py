"""What administrators are told of workers, devices and models, and how they ask for changes.

Bytes are bytes of the device. Times are seconds from now, so that no two clocks are compared.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from shared.wire.node import AdapterState, ModelState

LONGEST_WAIT = 3600.0
Wait = bool | Annotated[float, msgspec.Meta(ge=0, le=LONGEST_WAIT)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]


class Change(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Pin or unpin a model: on one worker, or wherever it is."""

    model: Name
    worker: Name | None = None


class Unload(Change, kw_only=True, forbid_unknown_fields=True):
    wait: Wait = False
    """Whether to answer when it is gone, or for how many seconds at most."""


class Load(Change, kw_only=True, forbid_unknown_fields=True):
    pin: bool = False
    wait: Wait = False
    """Whether to answer when it is ready, or for how many seconds at most."""


class Progress(msgspec.Struct, kw_only=True, frozen=True):
    """Bytes of weights read of all; `total` 0: the engine does not tell."""

    phase: str
    read: int
    total: int


class ModelBytes(msgspec.Struct, kw_only=True, frozen=True):
    """`size` is what it takes or will take: the estimate, corrected by what was measured."""

    size: int
    reserved: int
    estimated: int
    measured: int | None


class ModelStatus(msgspec.Struct, kw_only=True, frozen=True):
    """One model on one worker."""

    object: Literal["model.status"] = "model.status"
    model: str
    worker: str
    lane: str
    device: str
    state: ModelState
    since_seconds: float
    """How long it has been in this state."""
    idle_seconds: float | None
    """Since its last request; None: it serves, or is not loaded."""
    keep_alive: float
    """Seconds it may be idle; negative: for ever."""
    serving: int
    places: int
    waiting: int
    """Requests that this worker counts on its line."""
    asked: bool
    """An administrator's load that has not come to an end."""
    pinned: bool
    bytes: ModelBytes
    bring_seconds: float
    """What a load, or of a sleeper the wake, is expected to take."""
    request_seconds: float | None
    """Mean time of its requests; None: none yet."""
    progress: Progress | None
    held: str | None
    """What a load that has not begun waits for."""
    why: str | None
    """Its last failure, in the engine's words."""
    retry_seconds: float | None
    """failed: when it may be tried again."""
    adapters: dict[str, AdapterState]
    """Those that its engine has, as NAME@VERSION."""


class Standing(msgspec.Struct, kw_only=True, frozen=True):
    """What an order changes of a model on one worker, as the audit log keeps it."""

    worker: str
    device: str
    state: ModelState
    asked: bool
    pinned: bool
    adapter: AdapterState | None = None
    """Of the adapter that was ordered."""


class ModelStatuses(msgspec.Struct, kw_only=True, frozen=True):
    object: Literal["list"] = "list"
    data: list[ModelStatus]


class DeviceStatus(msgspec.Struct, kw_only=True, frozen=True):
    """One device and its books; None: the device does not tell."""

    name: str
    kind: Literal["cuda", "cpu"]
    description: str
    total: int
    budget: int
    reserved: int
    quarantined: int
    foreign: int
    over: int
    free: int
    used: int | None
    utilisation: float | None
    watts: float | None
    joules: float | None
    celsius: float | None


class DecisionStatus(msgspec.Struct, kw_only=True, frozen=True):
    number: int
    """For `aihub explain`."""
    ago_seconds: float
    models: tuple[str, ...]
    text: str


class WorkerStatus(msgspec.Struct, kw_only=True, frozen=True):
    name: str
    lane: str
    host: str
    pid: int
    up_seconds: float
    heard_seconds: float
    """The age of what follows."""
    running: int
    device: DeviceStatus
    models: list[ModelStatus]
    decisions: list[DecisionStatus]
    """The last ones, newest at the end."""


class QueueStatus(msgspec.Struct, kw_only=True, frozen=True):
    waiting: int
    overdue_seconds: float
    """Of the first in line; negative while its class of service can wait."""


class Status(msgspec.Struct, kw_only=True, frozen=True):
    object: Literal["hub.status"] = "hub.status"
    workers: list[WorkerStatus]
    queues: dict[str, QueueStatus]
    """The line of each model, whichever worker takes from it."""
    unserved: list[str]
    """Models that no living worker serves."""


decode_change = msgspec.json.Decoder(Change)
decode_unload = msgspec.json.Decoder(Unload)
decode_load = msgspec.json.Decoder(Load)
