"""Tuned models that were deleted leave their engines, though nobody needs their room.

Nobody says so to a worker: whoever deletes a model removes its files, and without them it cannot be
what a request asks for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from shared import log
from worker.adapters import Adapters

SECONDS = 1.0
"""Between two looks at the files."""

logger = log.get("adapters")


class Retirement:
    """Of the adapters of one device's models, by model."""

    def __init__(self, adapters: Mapping[str, Adapters]) -> None:
        self._adapters = adapters

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            for model, those in list(self._adapters.items()):
                if there := those.tuned():
                    gone = await asyncio.to_thread(missing, there)
                    for name in those.retire(gone):
                        logger.info("deleted", model=model, adapter=name)
            await asyncio.sleep(SECONDS)


def missing(paths: Mapping[str, Path]) -> frozenset[str]:
    return frozenset(name for name, path in paths.items() if not path.exists())
