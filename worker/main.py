"""The worker process: wires settings, device, engines, loop and lane together."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from contextlib import AsyncExitStack
from functools import partial

import msgspec
import psycopg
import uvloop
from psycopg_pool import PoolTimeout

from shared import db, heap, log, settings
from shared.catalog import Catalog
from shared.clock import SystemClock
from worker import inventory, residency
from worker.cuda import CudaDevice
from worker.custody import Share
from worker.device import DeviceFault
from worker.journal import Journal
from worker.lane import Lane
from worker.loop import Loop
from worker.pinned import ours
from worker.report import Report
from worker.sampler import Sampler
from worker.servers import Servers

RULES = residency.Rules(limit=dict.fromkeys(residency.CLASSES, 86_400.0))
"""How long a request may wait is the gateway's to say: it has the caller."""

logger = log.get("worker")


async def database(url: str, until: AsyncExitStack) -> db.Pool | None:
    """The pool, or None while the database is away: it only remembers what loads took."""
    try:
        return await until.enter_async_context(db.connect(url))
    except (psycopg.Error, PoolTimeout) as error:
        logger.warning("no database, loads are estimated afresh", error=str(error))
        return None


async def serve(everything: settings.Settings, named: str | None) -> None:
    """Runs until SIGTERM or SIGINT. Raises SettingsError and DeviceFault.

    `named`: the one of the devices that this worker is for.
    """
    configured, share = chosen(everything, named)
    catalog = Catalog(configured.models)
    catalog.served(configured.lane)
    clock = SystemClock()
    async with AsyncExitStack() as until:
        pool = await database(configured.postgres, until)
        found = await inventory.take(configured, catalog, pool)
        if share.of == 1:
            residency.check_pinned(found.plans, found.pinned, found.ledger.budget)
        elif found.pinned:
            pinned = await ours(everything, catalog, pool, configured.device)
            share = share._replace(pinned=pinned)
        state = residency.device(found.plans, found.ledger.budget, now=clock.now(), rules=RULES)
        name = journal_name(configured.lane, found.device.name)
        journal = Journal(configured.folder, name, clock)
        loop = Loop(found.residents, state, found.device, found.ledger, journal, pool, clock)
        await loop.watch.round()
        cards = [found.device] if isinstance(found.device, CudaDevice) else []
        sampler = Sampler(cards)
        make = partial(
            inventory.make, configured, device=found.device, ledger=found.ledger, pool=pool
        )
        servers = Servers(catalog, configured.lane, make, loop, clock)
        report = Report(loop, found.ledger, clock, sampler, servers)
        lane = Lane(configured, catalog, loop, report, clock, share, servers)
        events = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            events.add_signal_handler(number, lane.request_stop)
        sampling = asyncio.create_task(sampler.run(), name="sampling")
        heap.settle()
        try:
            await lane.main()
        finally:
            sampling.cancel()
            await loop.close()


def chosen(configured: settings.Settings, named: str | None) -> tuple[settings.Settings, Share]:
    """The settings with the one device of this worker, and its place among the others."""
    devices = configured.devices
    if named is None and len(devices) > 1:
        raise settings.SettingsError(
            f"device, or {settings.PREFIX}DEVICE, lists {configured.device}: `aihub up` starts a"
            " worker for each; one alone is started with --device."
        )
    device = named or devices[0]
    if device not in devices:
        raise settings.SettingsError(
            f"--device {device}: the settings list {configured.device} only."
        )
    share = Share(devices.index(device), len(devices))
    return msgspec.structs.replace(configured, device=device), share


def journal_name(lane: str, device: str) -> str:
    """A lane's workers on one machine write a journal each."""
    return lane if device == "cpu" else f"{lane}-{device.replace(':', '-')}"


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aihub worker")
    parser.add_argument("--device", help="which of the devices that the settings list")
    return parser


def main() -> int:
    options = arguments().parse_args()
    try:
        configured = settings.load()
        log.configure("worker", configured.log_level, configured.log_format)
        uvloop.run(serve(configured, options.device))
    except (settings.SettingsError, DeviceFault) as error:
        sys.stderr.write(f"aihub worker: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
