"""What a worker has and does, put together for its heartbeat and for status."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from shared.clock import Clock
from shared.wire.node import AdapterState, DeviceReport, ModelReport, Note, Offered
from worker.cuda import CudaDevice
from worker.decision import Decision
from worker.gpu import Sample
from worker.ledger import Ledger
from worker.loop import Loop
from worker.memory import Ram, ram
from worker.sampler import Sampler
from worker.scheduler import wants
from worker.servers import Servers

FIRST_LOOK = 0.5
"""Seconds."""
LAST_DECISIONS = 16
"""Told in every heartbeat; the journal has more."""


class Report:
    """`sampler` looks at the cards among the devices."""

    def __init__(
        self,
        loop: Loop,
        ledger: Ledger,
        clock: Clock,
        sampler: Sampler | None = None,
        servers: Servers | None = None,
    ) -> None:
        self._loop = loop
        self._ledger = ledger
        self._clock = clock
        self._sampler = sampler
        self._servers = servers
        self._ram: Ram | None = None
        self._files_seen: asyncio.Task[None] | None = None

    async def look(self) -> None:
        """Looks at models' files, and at what is in use of a device that no sampler looks at."""
        first = self._files_seen is None
        if self._files_seen is None or self._files_seen.done():
            # A heartbeat does not wait for the disk that models are on.
            self._files_seen = asyncio.create_task(asyncio.to_thread(self._look_at_files))
        if first:
            # But the first one does for a moment: answers are kept only where files are known.
            await asyncio.wait([self._files_seen], timeout=FIRST_LOOK)
        if self._loop.device.kind == "cpu":
            self._ram = await asyncio.to_thread(ram)

    def sample(self) -> Sample | None:
        """The last look at the card; None where there is none, or it fails."""
        if self._sampler is None:
            return None
        seen = self._sampler.latest.get(self._loop.device.name)
        return seen if isinstance(seen, Sample) else None

    def models(self) -> dict[str, ModelReport]:
        return {name: self.model(name) for name in self._loop.state.slots}

    def device(self) -> DeviceReport:
        books = self._ledger.snapshot()
        report = DeviceReport(
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
        device = self._loop.device
        if self._ram is not None:
            total, available, _ = self._ram
            report = replace(report, total=total, used=total - available)
        if isinstance(device, CudaDevice):
            report = replace(report, description=device.description.name)
        seen = self.sample()
        return sampled(report, seen) if seen is not None else report

    def offered(self) -> dict[str, tuple[Offered, ...]]:
        """What servers offer by themselves, by settings table."""
        return {} if self._servers is None else self._servers.offered()

    def decisions(self) -> tuple[Note, ...]:
        return tuple(note(decision) for decision in list(self._loop.journal.last)[-LAST_DECISIONS:])

    def model(self, name: str) -> ModelReport:
        slot = self._loop.slot(name)
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
            asked=slot.asked is not None,
            pinned=slot.pinned,
            keep_alive=slot.kept,
            size=plan.size,
            reserved=line.reserved if line is not None else 0,
            estimated=resident.estimate.total if resident.estimate is not None else 0,
            measured=line.measured if line is not None else None,
            bring_seconds=plan.wake_seconds if slot.state == "asleep" else plan.load_seconds,
            request_seconds=resident.request_seconds,
            progress=resident.engine.progress(),
            held=self._held(name),
            why=slot.why,
            retry_ms=self._wall_ms(slot.retry_at) if slot.state == "failed" else 0,
            adapters=self._adapters(name),
            files=resident.identity.digest if resident.identity is not None else "",
        )

    def _adapters(self, name: str) -> dict[str, AdapterState]:
        adapters = self._loop.adapters.get(name)
        return adapters.states() if adapters is not None else {}

    def _look_at_files(self) -> None:
        for resident in list(self._loop.residents.values()):
            if resident.identity is not None:
                resident.identity.look()

    def _held(self, name: str) -> str:
        """What a model that somebody wants waits for before it loads."""
        slot = self._loop.slot(name)
        if slot.held:
            return self._loop.holds.get(name, "")
        work = self._loop.state.work
        if work is None or work.model == name or slot.state in ("loading", "ready"):
            return ""
        return f"the {work.what} of {work.model} comes first" if wants(slot) else ""

    def _wall_ms(self, at: float) -> int:
        """A time of the loop's clock as epoch milliseconds."""
        return self._clock.wall_ms() - int((self._clock.now() - at) * 1000)


def sampled(report: DeviceReport, seen: Sample) -> DeviceReport:
    """The report with what NVML said last; what the card does not have stays None."""
    return replace(
        report,
        used=seen.memory.used,
        utilisation=None if seen.busy_percent is None else seen.busy_percent / 100,
        watts=None if seen.power_mw is None else seen.power_mw / 1000,
        joules=None if seen.energy_mj is None else seen.energy_mj / 1000,
        celsius=None if seen.celsius is None else float(seen.celsius),
    )


def note(decision: Decision) -> Note:
    return Note(decision.number, decision.wall_ms, decision.models, decision.text)
