"""Decisions on record: each with everything it was made from, so that it can be made again.

A line of the journal is one Decision in JSON. `python -m worker.decision FILE NUMBER` shows one,
makes it again from its line alone and compares every byte.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from shared.wire.decision import Line
from worker.effect import Admit, Effect, Evict, Load, Refuse, Wake
from worker.occasion import Occasion
from worker.residency import Device, gib
from worker.scheduler import Outcome, decide

RULES = 4
"""Goes up when the scheduler decides otherwise; a line made under other rules is not replayed."""


class Decision(Line, frozen=True, kw_only=True):
    effects: tuple[Effect, ...]
    next_at: float | None
    after: str
    """Digest of the state that came out."""
    event: Occasion
    before: Device


encode = msgspec.json.Encoder().encode
decode_event = msgspec.json.Decoder(Occasion).decode
decode = msgspec.json.Decoder(Decision).decode


def record(number: int, wall_ms: int, before: Device, event: Occasion, out: Outcome) -> Decision:
    return Decision(
        number=number,
        wall_ms=wall_ms,
        rules=RULES,
        models=models(out.effects),
        text="; ".join(say(effect) for effect in out.effects),
        effects=out.effects,
        next_at=out.next_at,
        after=hashlib.sha256(encode(out.after)).hexdigest()[:16],
        event=decode_event(encode(event)),
        before=before,
    )


def models(effects: tuple[Effect, ...]) -> tuple[str, ...]:
    """Those it is about: moved, admitted to, refused, held, and those that room is made for."""
    targets = (effect.target for effect in effects if isinstance(effect, Evict))
    return tuple(dict.fromkeys([*(effect.model for effect in effects), *filter(None, targets)]))


def say(effect: Effect) -> str:
    """An effect in a few words; the reasons stand in those that are choices."""
    match effect:
        case Admit():
            return f"admit {effect.count} to {effect.model}"
        case Load() | Wake():
            return effect.why
        case Refuse():
            return f"refuse {effect.model} ({effect.code}): {effect.why}"
        case _:
            return getattr(effect, "why", "") or f"{type(effect).__name__.lower()} {effect.model}"


def again(line: bytes) -> bytes:
    """The same decision made anew from its own line; equal to `line` if nothing is amiss."""
    known = decode(line)
    out = decide(known.before, known.event)
    return encode(record(known.number, known.wall_ms, known.before, known.event, out))


def find(path: Path, number: int) -> bytes | None:
    """The newest line of that number."""
    found = None
    with path.open("rb") as file:
        for line in file:
            if line.startswith(b'{"number":%d,' % number):
                found = line.rstrip(b"\n")
    return found


def show(decision: Decision) -> str:
    """The inputs and the outcome, for people."""
    before = decision.before
    now = max(before.now, decision.event.at)
    lines = [
        f"event     {encode(decision.event).decode()}",
        f"device    {gib(before.capacity)}, {gib(before.free)} free,"
        f" {gib(before.foreign)} used by others, {gib(before.quarantined)} quarantined",
    ]
    for name, slot in before.slots.items():
        if slot.held_bytes or slot.count or slot.serving:
            lines.append(
                f"  {slot.state:<9}{gib(slot.held_bytes):>10}  {name}: serves {slot.serving},"
                f" {slot.count} waiting, unused for {now - slot.used:.1f} s"
                + (", pinned" if slot.pinned else "")
            )
    lines += [f"{type(e).__name__.lower():<9} {say(e)}" for e in decision.effects]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Exit status 1 when the decision is not there, or comes out differently."""
    path, number = Path(arguments[0]), int(arguments[1])
    line = find(path, number)
    if line is None:
        print(f"{path} holds no decision {number}", file=sys.stderr)
        return 1
    decision = decode(line)
    print(show(decision))
    if decision.rules != RULES:
        print(f"replay    not made again: rules {decision.rules}, this version has {RULES}")
        return 1
    equal = again(line) == line
    print(f"replay    {'equal, byte for byte' if equal else 'DIFFERS'}")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
