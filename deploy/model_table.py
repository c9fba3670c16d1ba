"""The status of the hub as people read it: a bar for each device, a line for each model. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from shared.size import spell_size
from shared.wire.status import DeviceStatus, ModelStatus, QueueStatus, Status, WorkerStatus

BAR = 32
DECISIONS = 5
HEAD = ("model", "state", "holds", "serves", "waiting", "idle", "keeps", "")
UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


def render(status: Status) -> Iterator[str]:
    for worker in status.workers:
        yield from worker_lines(worker, status.queues)
        yield ""
    if not status.workers:
        yield "no worker runs"
    if status.unserved:
        yield f"no worker serves {', '.join(status.unserved)}"


def worker_lines(worker: WorkerStatus, queues: Mapping[str, QueueStatus]) -> Iterator[str]:
    yield (
        f"worker {worker.name} on {worker.host}, lane {worker.lane}, up"
        f" {duration(worker.up_seconds)}, {worker.running} running"
    )
    yield from device_lines(worker.device)
    rows = [row(model, queues.get(model.model)) for model in worker.models]
    yield from columns([HEAD, *rows])
    for decision in worker.decisions[-DECISIONS:]:
        yield f"{duration(decision.ago_seconds):>8} ago  {decision.text}"


def device_lines(device: DeviceStatus) -> Iterator[str]:
    name = f"{device.name} ({device.description})" if device.description else device.name
    used = "" if device.used is None else f", {spell_size(device.used)} in use by everybody"
    yield f"{name}: {spell_size(device.total)}{used}{''.join(measured(device))}"
    parts = {
        "free": device.free,
        "reserved": device.reserved,
        "used by others": device.foreign,
        "quarantined": device.quarantined,
        "OVER the budget": device.over,
    }
    told = [f"{spell_size(size)} {what}" for what, size in parts.items() if size]
    yield f"[{bar(device)}] {spell_size(device.budget)} for models: {', '.join(told)}"


def measured(device: DeviceStatus) -> Iterator[str]:
    if device.utilisation is not None:
        yield f", {device.utilisation:.0%} busy"
    if device.watts is not None:
        yield f", {device.watts:.0f} W"
    if device.celsius is not None:
        yield f", {device.celsius:.0f} °C"


def bar(device: DeviceStatus) -> str:
    """# reserved, q quarantined, x used by others, . free; whatever is there has a place."""
    shares = (("#", device.reserved), ("q", device.quarantined), ("x", device.foreign))
    drawn = "".join(
        sign * max(1, round(BAR * size / max(1, device.budget))) for sign, size in shares if size
    )
    return f"{drawn[:BAR]:.<{BAR}}"


def row(model: ModelStatus, queue: QueueStatus | None) -> tuple[str, ...]:
    loaded = model.bytes.reserved or model.state not in ("absent", "failed")
    places = f"{model.serving}/{model.places}" if loaded else ""
    idle = "" if model.idle_seconds is None else duration(model.idle_seconds)
    kept = "for ever" if model.keep_alive < 0 else duration(model.keep_alive)
    waiting = str(queue.waiting if queue is not None else model.waiting)
    return (model.model, model.state, holds(model), places, waiting, idle, kept, remarks(model))


def holds(model: ModelStatus) -> str:
    """What was measured of what is reserved; in brackets what a model that is not there takes."""
    size = model.bytes
    if not size.reserved:
        return f"({spell_size(size.size)})" if size.size else ""
    if size.measured is None:
        return spell_size(size.reserved)
    return f"{spell_size(size.measured)} of {spell_size(size.reserved)}"


def remarks(model: ModelStatus) -> str:
    """What there is to say beside the numbers."""
    told = ["pinned"] if model.pinned else []
    if model.progress is not None:
        told.append(progress(model))
    if model.held is not None:
        told.append(f"waits: {model.held}")
    if model.state == "failed":
        again = f", again in {duration(model.retry_seconds)}" if model.retry_seconds else ""
        told.append(f"{model.why}{again}")
    if model.adapters:
        each = (f"{name} {state}" for name, state in model.adapters.items())
        told.append(f"adapters: {', '.join(each)}")
    return "; ".join(told)


def progress(model: ModelStatus) -> str:
    going = model.progress
    if going is None:
        return ""
    if not going.total:
        return going.phase
    return f"{going.phase} {spell_size(going.read)} of {spell_size(going.total)}"


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for one in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(one, widths, strict=True))
        yield ("  " + "  ".join(cells)).rstrip()


def duration(seconds: float) -> str:
    for size, unit in UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
