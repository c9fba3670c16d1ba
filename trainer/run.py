"""One claimed job, from its files to its model. Whatever ends the process, another run goes on."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import msgspec

from shared import log
from shared.settings import Settings
from shared.wire.openai.fine_tuning import JobError, Status
from shared.wire.training import Note
from trainer import launch, report, words
from trainer.book import AWAY, Book, LostError
from trainer.files import Files, InvalidDataError
from trainer.lease import Lease, NoRoomError
from trainer.lesson import measured, smaller
from trainer.lock import locked
from trainer.plan import BROKEN, FINISHED, YIELDED, Order
from trainer.planning import Planned, Planner, UntrainableError
from trainer.process import Child, spawn
from trainer.publish import Publisher

RENEW_SECONDS = 1.0
MOST_STARTS = 3
"""Children in a row that die without a step; the job fails then."""
KILLED_WITHIN = 30.0
"""Seconds for which a child that died with its trainer may hold the job's folder."""
CANCEL_WITHIN = 60.0
"""Seconds a child gets to obey an order to end."""
PAUSE_WITHIN = 900.0

logger = log.get("run")


class Run:
    """`main` returns when the job is over, or not this trainer's any more."""

    def __init__(
        self,
        settings: Settings,
        book: Book,
        files: Files,
        planner: Planner,
        lease: Lease,
        publisher: Publisher,
    ) -> None:
        self._settings = settings
        self._book = book
        self._files = files
        self._planner = planner
        self._lease = lease
        self._publisher = publisher
        self._child: Child | None = None
        self._planning: asyncio.Task[Planned | None] | None = None
        self._wanted: Status = "running"
        self._stopping = False
        self._renew = asyncio.Event()
        self._barren = book.claim.starts
        self._told = 0
        self._running: Planned | None = None
        self._smaller: Planned | None = None
        self._repeating = True
        self.id = book.claim.id

    @property
    def folder(self) -> Path:
        return self._settings.folder / "training" / self.id

    def look(self) -> None:
        """Somebody may have moved the job."""
        self._renew.set()

    def stop(self) -> None:
        """The trainer ends: the child is to write a checkpoint, another run goes on from it."""
        self._stopping = True
        self._enforce()

    async def main(self) -> None:
        renewing = asyncio.create_task(self._keep_claim())
        working = asyncio.create_task(self._work())
        try:
            done, _ = await asyncio.wait({renewing, working}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except LostError as lost:
            logger.warning("given up", job=self.id, why=str(lost))
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            if self._child is not None:
                await self._child.kill()
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            with contextlib.suppress(LostError):
                await self._book.release()

    async def _work(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        async with locked(self.folder, KILLED_WITHIN) as descriptor:
            try:
                planned = await self._examined()
                while planned is not None and self._goes_on():
                    planned = await self._once(planned, descriptor)
            except NoRoomError as full:
                await self._book.aside(str(full), had_its_turn=full.had_its_turn)
            except UntrainableError as error:
                await self._book.fail(JobError("model_unfit", str(error), "model"))
            except InvalidDataError as error:
                await self._book.fail(error.told)

    def _goes_on(self) -> bool:
        return not self._stopping and self._wanted in ("validating_files", "queued", "running")

    async def _examined(self) -> Planned | None:
        """The plan; None also where the job is moved while its files are read."""
        self._planning = asyncio.create_task(self._plan())
        try:
            return await self._planning
        except asyncio.CancelledError:
            if self._goes_on():
                raise
            return None
        finally:
            self._planning = None

    async def _plan(self) -> Planned | None:
        """Validates what was not validated before; None: it was paused or cancelled meanwhile."""
        job = await self._book.job()
        self._wanted = job.status
        data = await self._files.fetch(job, self.folder)
        if job.plan is not None:
            return msgspec.convert(job.plan, Planned)
        made = await self._planner.plan(job, data, await self._book.runs(self._planner.kind))
        to = "paused" if job.asked.hold else "queued"
        note = Note(f"Files validated, moving job to {to} state", data=words.chosen(made))
        status = await self._book.planned(msgspec.to_builtins(made), note)
        if status != "queued":
            return None
        self._wanted = status
        return made

    async def _once(self, made: Planned, descriptor: int) -> Planned | None:
        """One child; None: the job is over, or waits for its owner."""
        async with self._lease.held(made, self._book, self._goes_on) as place:
            if not self._goes_on() or await self._book.run() is None:
                return None
            self._wanted = "running"
            self._told = (await self._book.job()).step
            self._running = planned = place.planned
            planned.plan.write(self.folder)
            argv = launch.train(self._settings.train_python or "", self.folder)
            try:
                self._child = child = await spawn(
                    argv, self.folder, place.environment, [descriptor]
                )
            except OSError as error:
                message = f"train_python cannot be started: {error}"
                await self._book.fail(JobError("server_error", message))
                return None
            place.occupied(child)
            logger.info("child", job=self.id, pid=child.pid)
            try:
                again = await self._follow(child)
            finally:
                await child.kill()
                self._child = None
        return (self._smaller or made) if again else None

    async def _follow(self, child: Child) -> bool:
        """Writes what it reports; whether another child is to go on at once."""
        last: report.Report | None = None
        self._repeating = True
        if not self._goes_on():
            self._enforce()
        async for said in child.reports():
            last = said
            await self._take(said)
        status = await child.exit()
        match last:
            case report.Done() if status == FINISHED:
                await self._measure(last.effort)
                await self._finish(last)
                return False
            case report.Yielded() if status == YIELDED:
                return await self._yielded(last)
            case report.Broken() if status == BROKEN:
                return await self._broken(last)
        if not self._goes_on():
            return False
        return await self._died(child, status)

    async def _broken(self, last: report.Broken) -> bool:
        """Where the memory did not do, a smaller batch is tried."""
        if last.code == "out_of_memory":
            await self._measure(None)
            self._smaller = smaller(self._running)
            if self._smaller is not None:
                batch = self._smaller.sizes[0].batch
                text = f"It ran out of memory; the same step is computed with {batch} at once"
                await self._book.note(Note(text, level="warn", data={"batch": batch}))
                return True
        await self._book.fail(JobError(last.code, last.message))
        return False

    async def _measure(self, effort: report.Effort | None) -> None:
        if (ran := measured(self._running, effort)) is not None:
            await self._book.measured(ran)

    async def _died(self, child: Child, status: int) -> bool:
        self._barren += 1
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        if self._barren >= MOST_STARTS:
            message = f"The training process {how}, {self._barren} times in a row. {child.tail}"
            await self._book.fail(JobError("server_error", message.strip()[:2000]))
            return False
        logger.warning("child died", job=self.id, status=status, tail=child.tail[-500:])
        text = f"The training process {how}; it goes on from its newest checkpoint"
        await self._book.note(Note(text, level="warn"))
        return True

    async def _yielded(self, last: report.Yielded) -> bool:
        """It obeyed: pause and cancel are the owner's orders, stop is ours."""
        if self._stopping or self._wanted in ("paused", "cancelled"):
            await self._book.note(Note(f"Stopped behind step {last.step}", data=words.plain(last)))
            return False
        note = Note(f"Made room behind step {last.step}, goes on later", data=words.plain(last))
        await self._book.wait(note)
        return True

    async def _take(self, said: report.Report) -> None:
        match said:
            case report.Step() if self._repeating and said.step <= self._told:
                pass
            case report.Step():
                if not self._repeating:
                    self._barren = 0
                await self._book.step(said.step, said.of, said.eta, words.step(said))
            case report.Validation():
                await self._book.validated(said.step, words.note(said))
            case report.Started():
                self._repeating = False
                await self._book.note(words.note(said))
            case report.Checkpoint():
                await self._publisher.offer(self._book, self.folder, said)
            case report.Done() | report.Yielded() | report.Broken():
                pass
            case report.Held():
                logger.info("held" if said.held else "goes on", job=self.id, step=said.step)
            case _:
                await self._book.note(words.note(said))

    async def _finish(self, done: report.Done) -> None:
        if done.refused is not None:
            await self._book.fail(JobError("gate_refused", done.refused))
            return
        try:
            await self._publisher.result(self._book, self.folder, done)
        except OSError as error:
            message = f"The model could not be stored: {error}"
            await self._book.fail(JobError("server_error", message))

    async def _keep_claim(self) -> None:
        """Renews the claim, and obeys what the job's state then says; raises LostError."""
        while True:
            with contextlib.suppress(*AWAY):
                status = await self._book.renew()
                if status != self._wanted and not (
                    {status, self._wanted} <= {"validating_files", "queued", "running"}
                ):
                    logger.info("moved", job=self.id, to=status)
                    self._wanted = status
                    self._enforce()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RENEW_SECONDS):
                    await self._renew.wait()
            self._renew.clear()

    def _enforce(self) -> None:
        if self._planning is not None and not self._goes_on():
            self._planning.cancel()
        if self._stopping:
            self._order("stop")
        elif self._wanted == "paused":
            self._order("pause", PAUSE_WITHIN)
        elif self._wanted == "cancelled":
            self._order("cancel", CANCEL_WITHIN)

    def _order(self, order: Order, within: float | None = None) -> None:
        """`within`: seconds until it is killed; its newest checkpoint stays."""
        if self._child is not None:
            self._child.order(order)
            if within is not None:
                self._child.kill_after(within)
