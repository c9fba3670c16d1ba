"""Which of a lane's workers is called for a model. Pure: the same reports give the same worker.

The first of these that some worker offers, and in it the worker that is best, ties by name:

 1. the model is ready and has a free place;
 2. it is ready and full, comes already, or somebody waits for it there: the shortest wait, unless
    another worker would have it ready sooner with bytes that are free;
 3. it is asleep, and the bytes to wake it are free;
 4. it fits in the free bytes: the one that brings it soonest;
 5. it fits when idle models leave;
 6. it fits when models in use have left, too;
 7. its last load there failed, and the pause after it is not over;
 8. it could not fit at all.

The last two can only refuse, so they are called for an answer that says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from shared.wire.node import ModelReport, WorkerState

ASSUMED = 1.0
"""Seconds of a request where none was measured yet."""
COMES = 2
"""The last tier of workers that have the model, or will have it whoever is called."""
NOBODY: Mapping[str, str] = {}
NOTHING: Mapping[str, int] = {}


class Placed(NamedTuple):
    worker: str
    why: str
    brings: bool = False
    """It does not have the model, nor is it about to."""
    room: int = 0
    """Requests that it serves at a time; 0: it has not the model, or no place when it said so."""


class Offer(NamedTuple):
    """What one worker could do for a model; the lowest one is taken."""

    tier: int
    cost: float
    """Within a tier; in seconds where that is known."""
    tie: int
    worker: str
    why: str
    line: float = 0.0
    """Seconds until a place is free, by the report alone and by times that were measured."""
    soon: float | None = None
    """Seconds until the model would be ready with bytes that are free; None: not so."""


def place(
    workers: Sequence[WorkerState],
    model: str,
    now_ms: int,
    *,
    called: Mapping[str, str] = NOBODY,
    sent: Mapping[str, int] = NOTHING,
) -> Placed | None:
    """The worker to call; None when no worker knows the model.

    What reports cannot hold yet: `called` has the worker last called for a model, `sent` how many
    requests for this model each worker was called for.
    """
    able = [worker for worker in workers if model in worker.models]
    offers = [offer(w, model, now_ms, called, sent.get(w.name, 0)) for w in able]
    best = min(offers, default=None)
    if best is None:
        return None
    if best.tier == COMES and (sooner := relief(best, offers)) is not None:
        return Placed(sooner.worker, f"{sooner.why}; the line on {best.worker} takes longer", True)
    why = "no other worker serves it" if len(able) == 1 else best.why
    (report,) = (worker.models[model] for worker in able if worker.name == best.worker)
    return Placed(best.worker, why, best.tier > COMES, room(report))


def room(report: ModelReport) -> int:
    return report.places if report.state == "ready" and report.serving < report.places else 0


def relief(best: Offer, offers: Sequence[Offer]) -> Offer | None:
    """The worker that has a second copy ready before the first one's line is done."""
    sooner = [o for o in offers if o.soon is not None and o.soon < best.line]
    return min(sooner, default=None)


def offer(
    worker: WorkerState, model: str, now_ms: int, called: Mapping[str, str], sent: int
) -> Offer:
    report = worker.models[model]
    name = worker.name
    waiting = report.waiting + sent
    if report.state == "ready":
        free = report.places - report.serving - waiting
        if free > 0:
            return Offer(1, 0.0, -free, name, f"ready with {free} of {report.places} places free")
        cost, line = turns(report, sent, 0.0)
        return Offer(2, cost, waiting, name, f"ready, {waiting} wait", line)
    if failed(report, now_ms):
        rest = (report.retry_ms - now_ms) / 1000
        return Offer(7, rest, 0, name, f"its load failed, the next is tried in {rest:.0f} s")
    ceiling = worker.device.budget - taken(worker) - pinned(worker, model)
    if report.size > ceiling:
        return Offer(8, -ceiling, 0, name, f"needs {report.size} bytes of {ceiling}")
    if report.state == "loading" or report.waiting or called.get(model) == name:
        left = report.bring_seconds
        if report.state == "loading":
            left = max(0.0, left - (now_ms - report.since_ms) / 1000)
        cost, line = turns(report, sent, left)
        return Offer(2, cost, waiting, name, f"{report.state} and wanted, {waiting} wait", line)
    return bring(worker, model, called)


def turns(report: ModelReport, sent: int, ready: float) -> tuple[float, float]:
    """Seconds until one more request has its turn, `ready` seconds from now at the earliest: with
    what was sent since the report, and by the report alone where its times are measured.
    """
    ahead = max(0, report.serving + report.waiting + 1 - report.places)
    each = (report.request_seconds or ASSUMED) / report.places
    line = ready + ahead * each if report.request_seconds else 0.0
    return ready + (ahead + sent) * each, line


def bring(worker: WorkerState, model: str, called: Mapping[str, str]) -> Offer:
    """What it takes where the model is not and nobody waits for it yet."""
    report, name, seconds = worker.models[model], worker.name, worker.models[model].bring_seconds
    lack = report.size - (report.reserved if report.state == "asleep" else 0)
    free = worker.device.free - promised(worker, model, called)
    if lack <= free:
        tier, what = (3, "asleep") if report.state == "asleep" else (4, report.state)
        why = f"{what}, {seconds:.1f} s to bring and {free} bytes free"
        return Offer(tier, seconds, -free, name, why, soon=seconds)
    spare = idle_bytes(worker, model, called)
    if lack <= free + spare:
        return Offer(5, seconds, -free, name, f"{report.state}, idle models leave {spare} bytes")
    busy = sum(each.serving + each.waiting for each in worker.models.values())
    return Offer(6, float(busy), -free, name, f"{report.state}, models in use must leave")


def failed(report: ModelReport, now_ms: int) -> bool:
    return report.state == "failed" and report.retry_ms > now_ms


def taken(worker: WorkerState) -> int:
    """Bytes that no model of this worker can have."""
    return worker.device.foreign + worker.device.quarantined


def pinned(worker: WorkerState, model: str) -> int:
    return sum(r.size for name, r in worker.models.items() if r.pinned and name != model)


def promised(worker: WorkerState, model: str, called: Mapping[str, str]) -> int:
    """Bytes of others that come to this worker and do not hold them yet."""
    return sum(
        report.size
        for name, report in worker.models.items()
        if name != model
        and report.state in ("absent", "failed")
        and (report.waiting or called.get(name) == worker.name)
    )


def idle_bytes(worker: WorkerState, model: str, called: Mapping[str, str]) -> int:
    """Bytes of models that may leave now."""
    return sum(
        report.reserved
        for name, report in worker.models.items()
        if name != model
        and report.state in ("ready", "asleep", "draining")
        and not (report.pinned or report.serving or report.waiting)
        and called.get(name) != worker.name
    )
