"""The device a job trains on: whose it is meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from trainer.book import Book
from trainer.plan import Plan
from trainer.process import Child


class Place(Protocol):
    """Room on a device, for as long as it is held."""

    @property
    def environment(self) -> Mapping[str, str]:
        """For the child: which device it may see."""

    def occupied(self, child: Child) -> None:
        """The child that takes the room; it is told when others want it."""


class Lease(Protocol):
    def held(
        self, job: str, plan: Plan, book: Book
    ) -> contextlib.AbstractAsyncContextManager[Place]:
        """Waits for room, and gives it back at the end."""


class Alone:
    """For a device that nobody else uses."""

    def __init__(self, device: str) -> None:
        kind, _, number = device.partition(":")
        self.environment: Mapping[str, str] = {
            "CUDA_VISIBLE_DEVICES": number if kind == "cuda" else ""
        }

    @contextlib.asynccontextmanager
    async def held(self, job: str, plan: Plan, book: Book) -> AsyncIterator[Place]:
        yield self

    def occupied(self, child: Child) -> None:
        """Nobody else wants it."""
