"""Which models make room for another: the set that is cheapest to bring back. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from math import prod

import msgspec

from worker.residency import Leaving, Rules, Slot

EXACT = 4096
"""Combinations looked at one by one; beyond, the cheapest per byte are taken and thinned out."""


class Option(msgspec.Struct, frozen=True, omit_defaults=True):
    """One way one model can make room."""

    model: str
    leaving: Leaving
    frees: int
    """Device bytes."""
    price: float
    """Seconds to bring it back, weighted by how likely it is wanted soon."""
    seconds: float
    """Seconds to bring it back."""
    used: float
    host: int = 0
    """Host bytes it takes."""


class Room(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A choice and what spoke for it."""

    lack: int
    """Bytes the new model takes beyond what it holds."""
    free: int
    victims: tuple[Option, ...]
    instead: tuple[Option, ...] = ()
    """The next best choice with other models; empty: there was none."""

    @property
    def short(self) -> int:
        """With this many bytes more, nothing would have had to go."""
        return self.lack - self.free


def options(name: str, slot: Slot, now: float, rules: Rules, *, host: int) -> list[Option]:
    """The ways a resident model can make room: asleep first, where it can sleep."""
    plan = slot.plan
    weight = (1 + slot.serving + slot.count) / (1 + max(0.0, now - slot.used) / rules.memory)
    if slot.state == "asleep":
        lost = max(0.0, plan.load_seconds - plan.wake_seconds)
        return [Option(name, "stop", plan.asleep_size, lost * weight, lost, slot.used)]
    load = plan.load_seconds
    found = [Option(name, "stop", plan.size, load * weight, load, slot.used)]
    if plan.can_sleep and plan.host_size <= host:
        wake, frees = plan.wake_seconds, plan.size - plan.asleep_size
        found.append(Option(name, "sleep", frees, wake * weight, wake, slot.used, plan.host_size))
    return found


def choose(choices: Sequence[Sequence[Option]], lack: int, free: int, host: int) -> Room | None:
    """The cheapest set that makes room, without a superfluous member; None: no set does.

    `choices` holds the options of each model, `host` the host bytes sleepers may take.
    """
    short = lack - free
    if prod(len(each) + 1 for each in choices) > EXACT:
        victims = greedy(choices, short, host)
        return Room(lack=lack, free=free, victims=victims) if victims else None
    best = sorted(minimal(choices, short, host), key=rank)
    if not best:
        return None
    names = {option.model for option in best[0]}
    instead = next((s for s in best[1:] if {o.model for o in s} != names), ())
    return Room(lack=lack, free=free, victims=best[0], instead=instead)


def minimal(
    choices: Sequence[Sequence[Option]], short: int, host: int
) -> Iterable[tuple[Option, ...]]:
    for picked in itertools.product(*((None, *each) for each in choices)):
        chosen = tuple(option for option in picked if option is not None)
        freed = sum(option.frees for option in chosen)
        if freed < short or sum(option.host for option in chosen) > host:
            continue
        if all(freed - option.frees < short for option in chosen):
            yield chosen


def greedy(choices: Sequence[Sequence[Option]], short: int, host: int) -> tuple[Option, ...]:
    chosen: dict[str, Option] = {}
    ways = [option for each in choices for option in each if option.frees > 0]
    ways.sort(key=lambda option: (option.price / option.frees, option.used, option.model))
    for option in ways:
        if sum(o.frees for o in chosen.values()) >= short:
            break
        before = chosen.get(option.model)
        spent = sum(o.host for o in chosen.values() if o is not before)
        if (before is None or option.frees > before.frees) and spent + option.host <= host:
            chosen[option.model] = option
    freed = sum(option.frees for option in chosen.values())
    if freed < short:
        return ()
    for option in sorted(chosen.values(), key=lambda option: -option.price):
        if freed - option.frees >= short:
            freed -= option.frees
            del chosen[option.model]
    return tuple(chosen.values())


def rank(chosen: tuple[Option, ...]) -> tuple[float, float, int, list[str]]:
    """Cheapest; then longest unused, then smallest, then by name."""
    return (
        sum(option.price for option in chosen),
        max(option.used for option in chosen),
        sum(option.frees for option in chosen),
        [option.model for option in chosen],
    )
