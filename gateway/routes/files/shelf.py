"""All of files that a gateway has: the store, the routes, the sweeper, and what they count."""

from __future__ import annotations

from collections.abc import Callable

from litestar.handlers import ASGIRouteHandler

from gateway.front import Front
from gateway.routes.files.files import FileRoutes
from gateway.routes.files.uploads import UploadRoutes
from shared.db import Pool
from shared.files import place
from shared.files.files import Files
from shared.files.sweep import Sweeper
from shared.metrics import Counter, Gauge, Metric
from shared.settings import Settings


class Shelf:
    def __init__(self, settings: Settings, pool: Callable[[], Pool]) -> None:
        """Raises OSError when there can be no store. `pool` is known once the gateway runs."""
        self._pool = pool
        self._blobs = place.blobs(settings)
        self._sweeper = Sweeper(self._blobs)
        self._files = Files(pool, self._blobs, place.bounds(settings), self._sweeper.wake)
        self._moved = Counter(
            "aihub_file_bytes_total", "Bytes of files that came in and went out.", ("direction",)
        )

    def routes(self, front: Front) -> list[ASGIRouteHandler]:
        parts = (self._pool, self._files, self._moved, self._sweeper.wake)
        return [*FileRoutes(*parts).routes(front), *UploadRoutes(*parts).routes(front)]

    def metrics(self) -> list[Metric]:
        removed = Gauge(
            "aihub_file_blobs_removed",
            "Blobs this process has removed since it began.",
            lambda: {(): float(self._sweeper.removed)},
        )
        return [self._moved, removed]

    async def run(self) -> None:
        """Sweeps until it is cancelled."""
        await self._sweeper.run(self._pool())

    async def close(self) -> None:
        await self._blobs.close()
