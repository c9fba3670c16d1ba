"""The trainer process: wires settings, PostgreSQL, the queue and the loop together."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import redis.asyncio as redis
from arq.worker import Worker, func
from psycopg_pool import PoolTimeout

from shared import db, keys, log, queue, settings, training
from shared.db import Connection
from shared.files import place
from shared.files.files import Files as Uploads
from shared.settings import Settings, SettingsError
from trainer.book import Book
from trainer.exports import Exports
from trainer.files import Files
from trainer.lease import Lease
from trainer.lock import locked
from trainer.loop import Loop, name_of
from trainer.planning import Planner
from trainer.publish import Keep, Landing, Publisher
from trainer.run import Run
from trainer.shelf import Shelf

RECONNECT_SECONDS = 0.5
ALONE_WITHIN = 5.0
"""Seconds for which another trainer may still be in this home."""

logger = log.get("trainer")


async def take(ctx: dict[Any, Any], job: str) -> None:
    """arq's job: there is one of ours. It is claimed in PostgreSQL, where it stays if we die."""
    loop: Loop = ctx["loop"]
    loop.call()


async def answer_calls(url: str, loop: Loop) -> None:
    """A stock arq worker, a new one after each loss of Redis; what runs goes on meanwhile."""
    while True:
        link = training.client(url)
        worker = Worker(
            functions=[func(take, name=training.TAKE, keep_result=0, max_tries=1)],
            redis_pool=link,
            queue_name=keys.TRAINING_QUEUE,
            job_serializer=queue.serialize,
            job_deserializer=queue.deserialize,
            handle_signals=False,
            ctx={"loop": loop},
        )
        try:
            await worker.main()
        except (redis.RedisError, OSError) as error:
            logger.warning("the queue is away", error=str(error))
        finally:
            with contextlib.suppress(redis.RedisError, OSError):
                await worker.close()
        await asyncio.sleep(RECONNECT_SECONDS)


async def listen(url: str, loop: Loop, lease: Lease, exports: Exports) -> None:
    link = training.client(url)
    try:
        while True:
            with contextlib.suppress(redis.RedisError, OSError):
                async for word in training.words(link):
                    if word.decode() == keys.LEASE_WORD:
                        lease.moved.set()
                    elif word == training.EXPORTS:
                        exports.call()
                    else:
                        loop.moved(word.decode())
            await asyncio.sleep(RECONNECT_SECONDS)
    finally:
        await link.aclose(close_connection_pool=True)


def unswept() -> None:
    """Nothing arrives here that could be left over."""


def landing(uploads: Uploads) -> Landing:
    """How metrics become a file: first come the bytes, and with the end of the job the file."""

    @contextlib.asynccontextmanager
    async def landed(project: str, name: str, content: AsyncIterator[bytes]) -> AsyncIterator[Keep]:
        async with uploads.arriving(project, limit=uploads.bounds.quota) as arrived:
            async for data in content:
                await arrived.write(data)
            await arrived.land()

            async def keep(connection: Connection) -> str:
                made = await uploads.keep(connection, arrived, project, name, "fine-tune-results")
                return made.id

            yield keep

    return landed


async def serve(chosen: Settings) -> None:
    """Runs until SIGTERM or SIGINT. Raises psycopg.Error and PoolTimeout without a database."""
    shelf = Shelf(chosen.folder)
    link = training.client(chosen.redis)
    home = chosen.folder / "training"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with locked(home, ALONE_WITHIN), db.connect(chosen.postgres) as pool:
        uploads = Uploads(lambda: pool, place.blobs(chosen), place.bounds(chosen), unswept)
        files = Files(chosen, uploads.fetch)

        publisher = Publisher(shelf, landing(uploads))
        lease = Lease(link, name_of(chosen), chosen.train_device)
        planner = Planner(chosen)

        def begin(book: Book) -> Run:
            return Run(chosen, book, files, planner, lease, publisher)

        loop = Loop(chosen, pool, link, shelf, begin)
        events = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            events.add_signal_handler(number, loop.request_stop)
        exports = Exports(chosen, pool, uploads, loop.name)
        others = [
            asyncio.create_task(answer_calls(chosen.redis, loop)),
            asyncio.create_task(listen(chosen.redis, loop, lease, exports)),
            asyncio.create_task(exports.main()),
        ]
        logger.info("trainer is up", name=loop.name, device=chosen.train_device)
        try:
            await loop.main()
        finally:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await link.aclose(close_connection_pool=True)


def main() -> int:
    try:
        chosen = settings.load()
        log.configure("trainer", chosen.log_level, chosen.log_format)
        if chosen.train_python is None:
            raise SettingsError(
                "train_python, or AIHUB_TRAIN_PYTHON: a trainer needs the interpreter of an"
                " environment with torch, trl and peft."
            )
        asyncio.run(serve(chosen))
    except SettingsError as error:
        sys.stderr.write(f"aihub trainer: {error}\n")
        return 2
    except (psycopg.Error, PoolTimeout) as error:
        logger.error("the database does not answer", error=str(error))
        return 1
    except TimeoutError:
        sys.stderr.write("aihub trainer: another trainer works in this home\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
