"""What a worker has and does, put together for its heartbeat and for status."""

from __future__ import annotations

from shared.clock import Clock
from shared.wire.node import DeviceReport, ModelReport, Note
from worker.decision import Decision
from worker.ledger import Ledger
from worker.loop import Loop
from worker.residency import Slot

LAST_DECISIONS = 16
"""Told in every heartbeat; the journal has more."""


class Report:
    def __init__(self, loop: Loop, ledger: Ledger, clock: Clock) -> None:
        self._loop = loop
        self._ledger = ledger
        self._clock = clock

    def models(self) -> dict[str, ModelReport]:
        return {name: self._model(name, slot) for name, slot in self._loop.state.slots.items()}

    def device(self) -> DeviceReport:
        books = self._ledger.snapshot()
        return DeviceReport(
            name=books.device,
            kind=self._loop.device.kind,
            total=books.total,
            budget=books.budget,
            reserved=books.reserved,
            quarantined=books.quarantined,
            foreign=self._loop.state.foreign,
            over=books.over,
            free=max(0, self._loop.state.free),
        )

    def decisions(self) -> tuple[Note, ...]:
        return tuple(note(decision) for decision in list(self._loop.journal.last)[-LAST_DECISIONS:])

    def _model(self, name: str, slot: Slot) -> ModelReport:
        resident = self._loop.residents[name]
        line = self._ledger.held(name)
        plan = slot.plan
        return ModelReport(
            state=slot.state,
            since_ms=self._wall_ms(slot.since),
            used_ms=self._wall_ms(slot.used),
            serving=slot.serving,
            waiting=slot.count,
            places=plan.places,
            pinned=slot.pinned,
            size=plan.size,
            reserved=line.reserved if line is not None else 0,
            estimated=resident.estimate.total if resident.estimate is not None else 0,
            measured=line.measured if line is not None else None,
            bring_seconds=plan.wake_seconds if slot.state == "asleep" else plan.load_seconds,
            held=self._loop.holds.get(name, ""),
            why=slot.why,
            retry_ms=self._wall_ms(slot.retry_at) if slot.state == "failed" else 0,
        )

    def _wall_ms(self, at: float) -> int:
        """A time of the loop's clock as epoch milliseconds."""
        return self._clock.wall_ms() - int((self._clock.now() - at) * 1000)


def note(decision: Decision) -> Note:
    return Note(decision.number, decision.wall_ms, decision.models, decision.text)
