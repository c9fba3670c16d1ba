"""What a worker has: its device, the books of it, and a resident for each model of its lane."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import psycopg
from psycopg_pool import PoolTimeout

from shared import log
from shared.catalog import Catalog, Entry
from shared.db import Pool
from shared.estimate import Estimate, estimate
from shared.footprint import Footprint, Key, reserve
from shared.load import load_of, weights_path
from shared.settings import Settings
from shared.size import parse_size
from shared.store import footprint as store
from shared.weights import WeightsError, read
from worker.adapting import adapting
from worker.cpu import CpuDevice
from worker.cuda import CudaDevice, open_cuda
from worker.device import Device
from worker.engines.base import Reservation
from worker.engines.registry import build
from worker.identity import Identity
from worker.ledger import Ledger
from worker.residency import Plan
from worker.resident import Resident

READ_RATE = 500_000_000
"""Bytes per second a first load is thought to read; measured afterwards."""
START_SECONDS = {"llamacpp": 1.0, "vllm": 60.0, "transformers": 8.0}
GRANTED = ("vllm", "transformers")
"""Engines that are told what they may take."""
FOR_EVER = -1.0
ELSEWHERE = ("openai", "ollama")

logger = log.get("inventory")


class Inventory(NamedTuple):
    device: Device
    ledger: Ledger
    residents: dict[str, Resident]
    plans: dict[str, Plan]
    pinned: frozenset[str]


async def take(settings: Settings, catalog: Catalog, pool: Pool | None) -> Inventory:
    """Raises DeviceFault for a device that cannot be used, SettingsError for a wrong budget."""
    device, budget = await open_device(settings)
    ledger = Ledger(device.name, device.total, budget)
    residents: dict[str, Resident] = {}
    plans: dict[str, Plan] = {}
    entries = catalog.served(settings.lane)
    for entry in entries:
        residents[entry.name] = resident = await make(settings, entry, device, ledger, pool)
        if entry.model.engine not in ELSEWHERE:
            find = partial(weights_path, entry.name, entry.model, settings)
            resident.identity = Identity(find)
        if resident.engine.can_adapt:
            listed = [
                one.adapter for one in catalog.named() if one.base == entry.name and one.adapter
            ]
            resident.adapting = adapting(entry.model, settings, tuple(listed))
        plans[entry.name] = plan(entry, resident)
    pinned = frozenset(entry.name for entry in entries if entry.model.pin)
    return Inventory(device, ledger, residents, plans, pinned)


async def open_device(settings: Settings) -> tuple[Device, int]:
    """The one device that `device` names, and the bytes of it that models may take together.

    Raises DeviceFault for one that cannot be used.
    """
    budget = parse_size(settings.memory) if settings.memory else None
    device: Device
    if settings.device.startswith("cpu"):
        device = CpuDevice(settings.device, budget)
    else:
        device = await open_cuda(int(settings.device.partition(":")[2]))
    return device, min(device.total, budget or device.total)


async def size(settings: Settings, entry: Entry, device: Device, pool: Pool | None) -> int:
    """Bytes that its next load on this device reserves; 0 where that is not known."""
    expected = expect(settings, entry)
    if expected is None:
        return 0
    earlier, least = await known(pool, key_of(entry, device), expected)
    return reserve(expected, earlier, least).bytes


def key_of(entry: Entry, device: Device) -> Key:
    """What measurements of this model on this kind of device are kept under."""
    kind = device.description.name if isinstance(device, CudaDevice) else device.kind
    model = entry.model
    return Key(kind, entry.name, model.engine, model.context, model.parallel)


async def make(
    settings: Settings, entry: Entry, device: Device, ledger: Ledger, pool: Pool | None
) -> Resident:
    model = entry.model
    expected = expect(settings, entry)
    key = key_of(entry, device)
    earlier, least, bytes = None, 0, 0
    if expected is not None:
        earlier, least = await known(pool, key, expected)
        bytes = reserve(expected, earlier, least).bytes
    granted = None
    if model.engine in GRANTED and expected is not None:
        granted = Reservation(
            device=device.description.uuid if isinstance(device, CudaDevice) else "",
            total=device.total,
            granted=bytes,
            kv=expected.kv_cache,
        )
    engine = build(entry.name, model, settings, granted)
    defaults = dict(model.defaults)
    return Resident(
        entry.name, engine, device, ledger, bytes, expected, key, defaults, earlier, least
    )


def expect(settings: Settings, entry: Entry) -> Estimate | None:
    """The estimate of a model that runs here; None for one that does not, or whose files lack."""
    if entry.model.engine in ELSEWHERE:
        return None
    try:
        weights = read(weights_path(entry.name, entry.model, settings))
        return estimate(weights, load_of(entry.model, settings, lenient=True))
    except WeightsError as error:
        logger.error("no estimate, its load will fail", model=entry.name, error=str(error))
        return None


async def known(pool: Pool | None, key: Key, expected: Estimate) -> tuple[Footprint | None, int]:
    """What an earlier load took on this kind of device, and what was too little for one."""
    if pool is None:
        return None, 0
    try:
        earlier = await store.find(pool, key)
        return earlier, await store.find_shortfall(pool, key, expected.weights)
    except (psycopg.Error, PoolTimeout) as error:
        logger.warning("earlier measurements unknown", model=key.model, error=str(error))
        return None, 0


def plan(entry: Entry, resident: Resident) -> Plan:
    model = entry.model
    elsewhere = model.engine in ELSEWHERE
    return Plan(
        size=resident.reserved,
        load_seconds=START_SECONDS.get(model.engine, 0.1) + resident.reserved / READ_RATE,
        places=model.parallel,
        keep_alive=FOR_EVER if elsewhere and not entry.server else model.keep_alive,
        can_sleep=resident.engine.can_sleep,
        host_size=resident.estimate.weights if resident.estimate is not None else 0,
        wake_seconds=1.0,
    )
