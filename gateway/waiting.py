"""What a request that waits can expect, by the workers' own reports. Pure.

expected = ready + max(0, ahead + 1 - free) / rate

where `ready` are the seconds until the model is ready: none where it is; what is left of its load
or wake; the whole of it, behind what comes first on that device, where it has not begun. `free`
are the places nobody has by then, and `rate` how many requests end in a second once all are taken:
places / mean time of a request.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

from shared.placement import ASSUMED
from shared.wire.node import LoadProgress, ModelReport, WorkerState

TRUSTED_SHARE = 0.05
"""Of a model's weights that must be read before the time for the rest is told from it."""
NO_WORKER = 5.0
"""Seconds until a worker comes back, where none serves the model."""
LONGEST_TEXT = 200
SHORTEST_RETRY, LONGEST_RETRY = 1.0, 60.0


class Outlook(NamedTuple):
    """What all who wait for one model can expect."""

    ready: float
    free: int
    rate: float
    why: str
    fails: bool = False
    """Its last load failed: an error is as likely as an answer."""
    others: bool = False
    """`why` names other models."""


class Waiting(NamedTuple):
    """`position` 1 is the first in line; `seconds` until its turn; `why` in words."""

    position: int
    seconds: float
    why: str
    fails: bool = False
    others: bool = False

    def comment(self, *, discreet: bool) -> bytes:
        """One line of a stream of events, which clients pass over. `discreet`: for somebody who
        is not to know the other models.
        """
        why = "its device has no room yet" if discreet and self.others else self.why
        words = "".join(c if " " <= c <= "~" else "?" for c in why[:LONGEST_TEXT])
        seconds = max(1, ceil(self.seconds))
        return f": waiting; position {self.position}; about {seconds} s; {words}\n\n".encode()


def expect(outlook: Outlook, ahead: int) -> Waiting:
    """With so many requests before it in line."""
    turns = max(0, ahead + 1 - outlook.free)
    seconds = outlook.ready + turns / outlook.rate
    return Waiting(ahead + 1, seconds, outlook.why, outlook.fails, outlook.others)


def retry_after(outlook: Outlook, ahead: int) -> float:
    """Whole seconds after which one more request has a chance."""
    return min(LONGEST_RETRY, max(SHORTEST_RETRY, round(expect(outlook, ahead).seconds)))


def outlook(workers: Sequence[WorkerState], model: str, called: str | None, now_ms: int) -> Outlook:
    """`called` is the worker last called for it. Where several are ready, all take from the line;
    where none is, the one that was called counts, unless its load failed: then who is soonest.
    """
    able = [worker for worker in workers if model in worker.models]
    if not able:
        return Outlook(NO_WORKER, 0, 1 / ASSUMED, f"no worker serves {model} now")
    ready = [w.models[model] for w in able if w.models[model].state == "ready"]
    if ready:
        free = sum(max(0, report.places - report.serving) for report in ready)
        serving = sum(report.serving for report in ready)
        return Outlook(0.0, free, sum(map(rate, ready)), f"{model} serves {serving}")
    chosen = next((worker for worker in able if worker.name == called), None)
    if chosen is None or chosen.models[model].state == "failed":
        chosen = min(able, key=lambda worker: (until_ready(worker, model, now_ms), worker.name))
    report = chosen.models[model]
    return Outlook(
        until_ready(chosen, model, now_ms),
        report.places,
        rate(report),
        words(model, report, now_ms),
        report.state == "failed",
        report.state not in ("loading", "failed") and bool(report.held),
    )


def rate(report: ModelReport) -> float:
    """Requests that end in a second while every place is taken."""
    return max(1, report.places) / (report.request_seconds or ASSUMED)


def until_ready(worker: WorkerState, model: str, now_ms: int) -> float:
    """Seconds until a model that is not ready would be, on this worker."""
    report = worker.models[model]
    if report.state == "loading":
        return left(report, now_ms)
    others = [other for name, other in worker.models.items() if name != model]
    first = sum(left(other, now_ms) for other in others if other.state == "loading")
    if report.size - report.reserved > worker.device.free:
        first += max((room(other) for other in others if other.serving), default=0.0)
    if report.state == "failed":
        first += max(0.0, (report.retry_ms - now_ms) / 1000)
    return first + report.bring_seconds


def room(report: ModelReport) -> float:
    """Seconds until a model in use has ended a request and been idle for as long as a load of it
    takes: a guess, the more so as a new request may come.
    """
    return (report.request_seconds or ASSUMED) + report.bring_seconds


def left(report: ModelReport, now_ms: int) -> float:
    """Seconds of a load under way: by the time it is to take, or by the bytes still unread where
    that is longer.
    """
    passed = max(0, now_ms - report.since_ms) / 1000
    planned = max(0.0, report.bring_seconds - passed)
    done = report.progress
    if done is None or done.read <= TRUSTED_SHARE * done.total:
        return planned
    return max(planned, passed * max(0, done.total - done.read) / done.read)


def words(model: str, report: ModelReport, now_ms: int) -> str:
    """What those wait for whose model is not ready."""
    if report.state == "loading":
        return f"loading {model}" + (f": {told(report.progress)}" if report.progress else "")
    if report.state == "failed":
        rest = max(0, ceil((report.retry_ms - now_ms) / 1000))
        return f"{model} did not start, the next try is in {rest} s"
    if report.held:
        return report.held
    return f"{model} is {report.state}"


def told(progress: LoadProgress) -> str:
    if not progress.total:
        return progress.phase
    read, total = progress.read / 1e6, progress.total / 1e6
    return f"{progress.phase} {read:.0f} of {total:.0f} MB"
