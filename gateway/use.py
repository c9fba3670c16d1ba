"""What is known of a request's use of the hub before, or without, a worker."""

from __future__ import annotations

from collections.abc import Collection

from shared import ids
from shared.catalog import Entry
from shared.price import cost
from shared.wire.account import Account
from shared.wire.event import Progress, Usage
from shared.wire.task import Class, Origin, Task
from shared.wire.usage import Cache, UsageEvent


class Use:
    """One request's; filled by its route. `endpoint` is empty where nothing is written down."""

    __slots__ = ("cache", "code", "endpoint", "entry", "queued", "service", "streamed")

    def __init__(self) -> None:
        self.endpoint = ""
        self.entry: Entry | None = None
        """The model that was found."""
        self.service: Class = "interactive"
        self.streamed = False
        self.queued = False
        """It became a job: who ends that writes its use down."""
        self.cache: Cache = "none"
        self.code: str | None = None
        """Of the error it was refused with."""


def unqueued(id_: str, account: Account, use: Use, status: int, seconds: float) -> UsageEvent:
    """Of a request that was no job: refused, or answered from a cache."""
    entry = use.entry
    return UsageEvent(
        ts_ms=ids.wall_ms(id_),
        request_id=id_,
        project=account.project,
        key=account.key,
        model=entry.base if entry is not None else "",
        adapter=entry.adapter.name if entry is not None and entry.adapter is not None else None,
        endpoint=use.endpoint,
        service=use.service,
        total_ms=int(seconds * 1000),
        status=status,
        code=use.code,
        cache=use.cache,
        streamed=use.streamed,
    )


def unclaimed(
    task: Task,
    origin: Origin,
    status: int,
    code: str | None,
    wall_ms: int,
    got: Collection[Progress] = (),
) -> UsageEvent:
    """Of a job that ended without a worker; `got` are its choices as earlier attempts left them.

    Of one that goes on they tell a token for each piece; its prompt only a worker knows.
    """
    ts_ms = ids.wall_ms(origin.request)
    usages = [one.usage or Usage(completion=one.pieces) for one in got]
    prompt = max((usage.prompt for usage in usages), default=0)
    cached = max((usage.cached for usage in usages), default=0)
    completion = sum(usage.completion for usage in usages)
    return UsageEvent(
        ts_ms=ts_ms,
        request_id=origin.request,
        project=origin.project,
        key=task.key,
        model=task.model,
        adapter=task.adapter.name if task.adapter is not None else None,
        endpoint=origin.endpoint,
        service=task.service,
        tokens_in=prompt,
        tokens_cached=cached,
        tokens_out=completion,
        total_ms=max(0, wall_ms - ts_ms),
        micros=cost(task.price, prompt, cached, completion, 0),
        status=status,
        code=code,
        streamed=task.streamed,
    )
