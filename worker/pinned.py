"""The pinned models of a lane and the devices that one settings file lists.

Every worker of these works it out alike, and takes what is its own. Run as a program it tells the
division by the formula alone, without what was measured; exit status 2: there is none.
"""

from __future__ import annotations

import asyncio
import sys

import msgspec

from shared import log
from shared.catalog import Catalog
from shared.db import Pool
from shared.settings import Settings, SettingsError, load
from worker.cuda import CudaDevice
from worker.device import DeviceFault
from worker.inventory import open_device, size
from worker.packing import Unsettled, divide

logger = log.get("pinned")


async def division(settings: Settings, catalog: Catalog, pool: Pool | None) -> dict[str, str]:
    """The device of each pinned model. Raises SettingsError when there are too many, DeviceFault
    for a device that cannot be used, Unsettled.
    """
    entries = [entry for entry in catalog.lane(settings.lane) if entry.model.pin]
    rooms: dict[str, int] = {}
    models: dict[str, dict[str, int]] = {entry.name: {} for entry in entries}
    for name in settings.devices:
        one = msgspec.structs.replace(settings, device=name)
        device, rooms[name] = await open_device(one)
        for entry in entries:
            models[entry.name][name] = await size(one, entry, device, pool)
        if isinstance(device, CudaDevice):
            device.close()
    return divide(models, rooms)


async def ours(
    settings: Settings, catalog: Catalog, pool: Pool | None, device: str
) -> frozenset[str] | None:
    """The pinned models of the worker of one device; None: that cannot be told.

    Raises SettingsError when there are too many. A device of another worker that cannot be used
    is that worker's to complain of.
    """
    try:
        found = await division(settings, catalog, pool)
    except Unsettled:
        logger.warning("whether the pinned models fit takes too long to find out")
        return None
    except DeviceFault as error:
        logger.warning("pinned models are not divided", reason=str(error))
        return None
    return frozenset(name for name, where in found.items() if where == device)


def main() -> int:
    try:
        settings = load()
        log.configure("pinned", settings.log_level, settings.log_format)
        found = asyncio.run(division(settings, Catalog(settings.models), None))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except DeviceFault as error:
        sys.stderr.write(f"{error}\n")
        return 3
    except Unsettled:
        sys.stderr.write("whether they fit takes too long to find out\n")
        return 3
    print(", ".join(f"{name} on {device}" for name, device in found.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
