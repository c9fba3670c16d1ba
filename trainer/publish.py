"""From an adapter in a job's folder to a model that everybody can ask for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import msgspec

from shared import training
from shared.db import Connection
from shared.errors import HubError
from shared.store import fine_tuning, metric, project, tuned_model
from shared.wire.training import Job, Metric, Note, Outcome, Publication
from trainer import naming, report, words
from trainer.book import Book, LostError
from trainer.shelf import Shelf, whole

Keep = Callable[[Connection], Awaitable[str]]
"""Makes bytes that have landed a file, when the transaction commits; gives its id."""
Landing = Callable[[str, str, AsyncIterator[bytes]], AbstractAsyncContextManager[Keep]]
"""Of a project, by name: bytes that are nobody's if nothing keeps them in the context."""

AT_ONCE = 5_000
"""Steps of one look at the metrics."""
KEPT = 3
"""Checkpoints of a job that are models, the best by validation loss beside them."""


class Publisher:
    """`shelf` is what workers load from."""

    def __init__(self, shelf: Shelf, landing: Landing) -> None:
        self._shelf = shelf
        self._landing = landing

    async def offer(self, book: Book, folder: Path, said: report.Checkpoint) -> None:
        """As `checkpoint`; the job goes on where that cannot be stored. Raises LostError."""
        try:
            await self.checkpoint(book, folder, said)
        except OSError as error:
            text = f"The checkpoint of step {said.step} is no model: {error}"
            await book.note(Note(text, level="warn"))

    async def checkpoint(self, book: Book, folder: Path, said: report.Checkpoint) -> None:
        """Offers it as a model, once; older ones go. Raises OSError and LostError."""
        job, owner = await self._about(book)
        name = naming.model(job.model, owner, job.suffix, job.id, said.step)
        if await book.write(lambda connection: tuned_model.known(connection, name)):
            return
        path, size = await asyncio.to_thread(
            self._shelf.put, folder / said.folder, job.id, said.step
        )
        metrics = words.checkpoint(said)

        async def publish(connection: Connection) -> None:
            if not await fine_tuning.note(connection, job.id, (), book.claim.fence):
                raise LostError("another trainer has the job")
            made = Publication(name=name, base=job.model, path=path, bytes=size, step=said.step)
            if not await tuned_model.publish(connection, job.id, made):
                return
            note = Note(f"Checkpoint created at step {said.step}", data={"model": name, **metrics})
            await fine_tuning.note(connection, job.id, [note])
            await fine_tuning.insert_checkpoint(connection, job.id, said.step, name, metrics)
            for old in await fine_tuning.retire_checkpoints(connection, job.id, KEPT):
                await tuned_model.delete(connection, old, job.project)

        await book.write(publish)
        await self._tell(book)

    async def result(self, book: Book, folder: Path, done: report.Done) -> None:
        """Offers the model in the transaction that ends the job, once for each that serves it.

        Raises OSError and LostError.
        """
        job, owner = await self._about(book)
        if job.status != "running":
            raise LostError(f"the job is {job.status}: nothing is to be left of it")
        gguf = None if done.adapter_gguf is None else folder / done.adapter_gguf
        path, size = await asyncio.to_thread(
            self._shelf.put, folder / done.adapter, job.id, gguf=gguf
        )
        offered = [
            Publication(
                name=naming.model(base, owner, job.suffix, job.id),
                base=base,
                path=path if base == job.model else whole(path),
                bytes=size,
            )
            for base in (job.model, *job.asked.served_by)
        ]
        metrics = {**words.plain(done.metrics), "sha256": done.sha256, "steps": done.steps}
        async with AsyncExitStack() as stack:
            keep = await self._results(book, job, stack)

            async def publish(connection: Connection) -> None:
                news = [await tuned_model.publish(connection, job.id, made) for made in offered]
                if not all(news):
                    # It has happened, and was not heard of.
                    return
                file = None if keep is None else await keep(connection)
                outcome = Outcome(tokens=done.trained_tokens, metrics=metrics, file=file)
                await succeed(connection, book, offered, outcome)

            await book.write(publish)
        await self._tell(book)

    async def _results(self, book: Book, job: Job, stack: AsyncExitStack) -> Keep | None:
        """The metrics of every step as a CSV file of the project: its bytes, until `stack` ends."""
        landed = self._landing(job.project, f"{job.id}.csv", lines(book))
        try:
            return await stack.enter_async_context(landed)
        except HubError as error:
            text = f"The metrics are not kept as a file: {error.message}"
            await book.note(Note(text, level="warn"))
            return None

    async def _about(self, book: Book) -> tuple[Job, str]:
        job = await book.job()

        async def find(connection: Connection) -> str:
            found = await project.find(connection, job.project)
            return job.project if found is None else found.name

        return job, await book.write(find)

    async def _tell(self, book: Book) -> None:
        await training.announce(book.link, training.MODELS)
        await book.announce()


async def succeed(
    connection: Connection, book: Book, offered: Sequence[Publication], outcome: Outcome
) -> None:
    """Raises LostError where the job is no longer this trainer's to end."""
    if await fine_tuning.succeed(connection, book.claim, offered[0].name, outcome) is None:
        raise LostError("the job was moved while its model was published")
    notes = [
        *(
            Note(
                f"New fine-tuned model created: {made.name}",
                data={"model": made.name, "bytes": made.bytes},
            )
            for made in offered
        ),
        Note("The job has successfully completed", data=msgspec.to_builtins(outcome.metrics)),
    ]
    await fine_tuning.note(connection, book.claim.id, notes, book.claim.fence)
    if outcome.file is not None:
        await metric.thin(connection, book.claim.id)


async def lines(book: Book) -> AsyncIterator[bytes]:
    """The metrics of every step as CSV, however many there are."""
    yield words.HEAD
    after = -1
    while True:

        async def read(connection: Connection, after: int = after) -> list[Metric]:
            return await metric.select(connection, book.claim.id, AT_ONCE, after)

        found = await book.write(read)
        if found:
            yield words.table(found)
            after = found[-1].step
        if len(found) < AT_ONCE:
            return
