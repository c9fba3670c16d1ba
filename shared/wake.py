"""What wakes a worker: calls for a queue, one with its job among them, and control messages."""

from __future__ import annotations

from shared import keys
from shared.resp import forget
from shared.script import LinkLike, Script
from shared.wire import event

MOST_CALLS = 64
"""For jobs of one queue at a time; the rest is found when the worker counts the line."""
HANDED = b"\0"
"""Begins a call that has its job with it; others are the name of a queue."""
CLOSED = b""
"""The last call that a worker hears. Where it comes first, nothing is handed over."""

_close = Script("close_calls")


def call(link: LinkLike, worker: str, queue: str, count: int) -> None:
    """Calls a worker for so many jobs that wait already."""
    name = keys.wake(worker)
    for reply in (
        link.call("RPUSH", name, *[queue] * min(count, MOST_CALLS)),
        link.call("PEXPIRE", name, keys.WAKE_MS),
    ):
        reply.add_done_callback(forget)


def tell(link: LinkLike, worker: str, message: event.Control) -> None:
    """Sends a control message; a worker that is gone never reads it and it expires."""
    name = keys.control(worker)
    for reply in (
        link.call("RPUSH", name, event.encode(message)),
        link.call("PEXPIRE", name, keys.CONTROL_MS),
    ):
        reply.add_done_callback(forget)


async def close_calls(link: LinkLike, worker: str) -> list[bytes]:
    """Those for a worker that hears no more; from now on nothing is handed to it."""
    calls: list[bytes] = await _close.run(link, (keys.wake(worker),), (CLOSED, keys.WAKE_MS))
    return calls
