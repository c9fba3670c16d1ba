"""Whether the worker that this process started answers, by its own heartbeat.

A heartbeat outlives its worker by some seconds, so one of another process says nothing.
"""

from __future__ import annotations

import socket

import redis

from deploy import linux
from shared import keys
from shared.settings import Settings
from shared.wire.node import WorkerState, decode_state

TIMEOUT = 2.0
"""Seconds Redis may take for one reply."""


def missing(settings: Settings, device: str) -> str | None:
    """What our worker on this device lacks; None when what it was to load answers, or some of it
    failed and not all. It may well have nothing to load until it is asked.
    """
    try:
        state = find(settings, device)
    except redis.RedisError as error:
        return f"its heartbeat cannot be read: {error}"
    if state is None:
        return "it has not shown a sign of life"
    states = [model.state for model in state.models.values()]
    loading = [name for name, model in state.models.items() if model.state == "loading"]
    if loading:
        return f"it loads {', '.join(loading)}"
    if "failed" in states and "ready" not in states:
        return "none of its models could be started"
    return None


def find(settings: Settings, device: str) -> WorkerState | None:
    """The state of the worker on this device that is a child of this process."""
    children = linux.children()
    ours = (settings.lane, socket.gethostname(), device)
    with redis.Redis.from_url(
        settings.redis, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=None
    ) as client:
        names = client.zrange(keys.WORKERS, 0, -1)
        for data in client.mget([keys.worker(name.decode()) for name in names]) if names else ():
            state = None if data is None else decode_state(data)
            if (
                state is not None
                and state.pid in children
                and (state.lane, state.host, state.device.name) == ours
            ):
                return state
    return None
