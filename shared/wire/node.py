"""What a worker says of itself: every second, and at once when a model of it changes its state."""

from __future__ import annotations

from typing import Literal

import msgspec

ModelState = Literal["absent", "loading", "ready", "asleep", "draining", "failed"]
Capability = Literal["images", "audio", "tools", "code"]
AdapterState = Literal["loading", "ready", "failed"]


class LoadProgress(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a load is: `phase` in a word or two, and bytes of weights read of all."""

    phase: str
    read: int = 0
    total: int = 0


class ModelReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One model on one worker. Bytes are bytes of the device, `_ms` epoch milliseconds."""

    state: ModelState = "absent"
    since_ms: int = 0
    """When it came into this state."""
    used_ms: int = 0
    """The end of its last request."""
    serving: int = 0
    waiting: int = 0
    """Requests that this worker counts on its line."""
    places: int = 1
    asked: bool = False
    """An administrator's load that has not come to an end."""
    pinned: bool = False
    keep_alive: float = 0.0
    """Seconds it may be idle, by its last request or its settings; negative: for ever."""
    size: int = 0
    """What it takes, or will take: estimated, corrected by what was measured."""
    reserved: int = 0
    """In the ledger now."""
    estimated: int = 0
    measured: int | None = None
    bring_seconds: float = 0.0
    """What it takes to make it ready from its state: a wake or a load."""
    request_seconds: float = 0.0
    """Mean time of its requests in the engine, newer ones weigh more; 0: none yet."""
    progress: LoadProgress | None = None
    held: str = ""
    """What those who wait for it wait for, in words."""
    why: str = ""
    """Its last failure, in the engine's words."""
    retry_ms: int = 0
    """failed: when it may be tried again."""
    adapters: dict[str, AdapterState] = {}
    """Those that its engine has, gets or could not get, by name and version."""
    files: str = ""
    """A digest of the files it is or will be loaded from; empty where it has none."""


class DeviceReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One device and its books, in bytes."""

    name: str
    kind: Literal["cuda", "cpu"]
    description: str = ""
    total: int
    budget: int
    reserved: int = 0
    quarantined: int = 0
    foreign: int = 0
    """In use by others than our engines."""
    over: int = 0
    """In use by our engines beyond what the books have room for."""
    free: int = 0
    used: int | None = None
    """In use by anyone, as the device says."""
    utilisation: float | None = None
    """0 to 1."""
    watts: float | None = None
    joules: float | None = None
    celsius: float | None = None


class Note(msgspec.Struct, array_like=True, frozen=True):
    """A decision that moved, refused or held models; `aihub explain NUMBER` tells all of it."""

    number: int
    wall_ms: int
    models: tuple[str, ...]
    text: str


class Offered(msgspec.Struct, array_like=True, frozen=True):
    """One model of a server whose models are offered by themselves, as the server tells it."""

    name: str
    """The server's own; ours is made of it by the settings table's name."""
    kind: Literal["chat", "embedding"]
    context: int = 0
    """The most tokens it takes; 0: not told."""
    capabilities: tuple[Capability, ...] = ()
    digest: str = ""
    """Changes with its weights."""


class WorkerState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A heartbeat. `running` counts jobs; `_ms` are epoch milliseconds."""

    name: str
    lane: str
    host: str
    pid: int
    started_ms: int
    at_ms: int = 0
    """When it said this."""
    running: int
    device: DeviceReport
    models: dict[str, ModelReport]
    decisions: tuple[Note, ...] = ()
    """The last ones, newest at the end."""
    offered: dict[str, tuple[Offered, ...]] = {}
    """By settings table, all that its server has; a server that has not answered yet lacks."""


encode_state = msgspec.msgpack.Encoder().encode
decode_state = msgspec.msgpack.Decoder(WorkerState).decode
