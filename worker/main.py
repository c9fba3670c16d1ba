"""The worker process: wires settings, engines and the lane together."""

from __future__ import annotations

import asyncio
import signal
import sys

import uvloop

from shared import log, settings
from shared.catalog import Catalog
from worker.engines.registry import build
from worker.lane import Lane
from worker.residents import Residents


async def serve(configured: settings.Settings) -> None:
    """Runs until SIGTERM or SIGINT."""
    catalog = Catalog(configured.models)
    served = catalog.served(configured.lane)
    residents = Residents(
        {entry.name: build(entry.name, entry.model, configured) for entry in served},
        {entry.name: entry.model.defaults for entry in served},
    )
    lane = Lane(configured, catalog, residents)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lane.request_stop)
    residents.start()
    try:
        await lane.main()
    finally:
        await residents.stop()


def main() -> int:
    try:
        configured = settings.load()
        log.configure("worker", configured.log_level, configured.log_format)
        uvloop.run(serve(configured))
    except settings.SettingsError as error:
        sys.stderr.write(f"aihub worker: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
