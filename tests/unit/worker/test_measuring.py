"""What a round over a device makes of models that come and go meanwhile."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping

from shared.footprint import Key
from tests.unit.worker.scripted import Scripted
from worker.cpu import CpuDevice
from worker.device import Measured
from worker.ledger import Ledger
from worker.measuring import Measuring
from worker.resident import Resident

GIB = 1 << 30


class Ours(Scripted):
    """An engine that is this process."""

    def pids(self) -> list[int]:
        return [os.getpid()]


class Going(CpuDevice):
    """While it is asked, one model is forgotten."""

    def __init__(self, residents: dict[str, Resident]) -> None:
        super().__init__()
        self._residents = residents

    async def measure(
        self,
        holders: Mapping[str, Collection[int]],
        known: Mapping[str, int] | None = None,
        foreign: int = 0,
    ) -> dict[str, Measured]:
        self._residents.pop("goes")
        return await super().measure(holders, known, foreign)


async def test_one_that_is_forgotten_meanwhile_costs_no_round() -> None:
    residents: dict[str, Resident] = {}
    device, books = Going(residents), Ledger("cpu", 64 * GIB)
    for name in ("stays", "goes"):
        key = Key("cpu", name, "llamacpp", 1, 1)
        residents[name] = Resident(name, Ours(), device, books, GIB, None, key, {})
        await residents[name].load()
    reading = await Measuring(device, books, residents).round()
    assert set(residents) == {"stays"}
    assert residents["stays"].figure
    assert reading.ours >= residents["stays"].held
