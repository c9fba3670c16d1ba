"""Which device has which pinned model, so that each has room for all of its own. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared.settings import SettingsError
from worker.residency import gib

MOST_STEPS = 200_000
"""Placements looked at before the search ends without an answer."""

Sizes = Mapping[str, int]
"""Bytes of one model on each device."""


class Unsettled(Exception):
    """The search took too long: whether they fit is not known."""


def divide(models: Mapping[str, Sizes], rooms: Mapping[str, int]) -> dict[str, str]:
    """The device of each model: taking turns where that fits, else any division that does.

    The search is complete, so SettingsError means that there is none. Raises Unsettled, too.
    """
    devices = list(rooms)
    turns = {name: devices[at % len(devices)] for at, name in enumerate(models)}
    if fits(turns, models, rooms):
        return turns
    largest_first = sorted(models, key=lambda name: (-min(models[name].values()), name))
    found = Search(models, dict(rooms)).place(largest_first)
    if found is None:
        raise SettingsError(too_much(models, rooms))
    return found


def fits(division: Mapping[str, str], models: Mapping[str, Sizes], rooms: Sizes) -> bool:
    taken = dict.fromkeys(rooms, 0)
    for name, device in division.items():
        taken[device] += models[name][device]
    return all(taken[device] <= room for device, room in rooms.items())


class Search:
    """Depth first; what is left of each device and was seen to fail is not tried again."""

    def __init__(self, models: Mapping[str, Sizes], rooms: dict[str, int]) -> None:
        self._models = models
        self._rooms = rooms
        self._failed: set[tuple[int, ...]] = set()
        self._steps = 0

    def place(self, names: Sequence[str]) -> dict[str, str] | None:
        if not names:
            return {}
        state = (len(names), *self._rooms.values())
        if state in self._failed:
            return None
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise Unsettled
        first, *others = names
        for device, size in self._models[first].items():
            if size <= self._rooms[device]:
                self._rooms[device] -= size
                found = self.place(others)
                self._rooms[device] += size
                if found is not None:
                    return {first: device, **found}
        self._failed.add(state)
        return None


def too_much(models: Mapping[str, Sizes], rooms: Mapping[str, int]) -> str:
    each = ", ".join(f"{name} {spelled(sizes)}" for name, sizes in models.items())
    there = ", ".join(f"{device} {gib(room)}" for device, room in rooms.items())
    total = gib(sum(min(sizes.values()) for sizes in models.values()))
    return (
        f"pinned models need {total} and cannot be divided among the devices, which have {there}:"
        f" {each}. Unpin some, or give them less context or fewer parallel requests."
    )


def spelled(sizes: Sizes) -> str:
    """One figure where all devices agree."""
    if len(set(sizes.values())) == 1:
        return gib(next(iter(sizes.values())))
    return " or ".join(f"{gib(size)} on {device}" for device, size in sizes.items())
