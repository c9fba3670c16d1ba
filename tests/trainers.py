"""A trainer process whose children only pretend to train, on the databases of the tests."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from deploy.service import Service
from shared import db, ids, training
from shared.db import Pool, transaction
from shared.files.arrival import Bounds
from shared.files.disk import Disk
from shared.files.files import Files
from shared.settings import Settings
from shared.store import fine_tuning
from shared.wire.openai.fine_tuning import Status
from shared.wire.training import Asked, Created, Event, Job
from tests.hub import alive, command_line, descendants
from tests.server import Server
from tests.unit.shared.weights.test_config import tiny

ROOT = Path(__file__).parents[1]
CHILD = "training_child.py"
TOML = """
train_python = "{python}"
[models.tiny]
engine = "llamacpp"
file = "smollm2-135m-instruct.q8_0.gguf"
context = 512
threads = 1
train_weights = "{weights}"
"""
WITHIN = 60.0


def stand_in(home: Path, seconds: float, behaviour: str = "well") -> Path:
    """An interpreter that starts the stand-in, whatever it is told to start."""
    path = home / "python"
    script = ROOT / "tests" / "fakes" / CHILD
    path.write_text(
        f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} {script} {seconds} {behaviour} "$@"\n'
    )
    path.chmod(0o755)
    return path


def prepare(home: Path, python: Path) -> str:
    """Makes what a trainer needs in its home; returns its settings."""
    weights = home / "weights"
    weights.mkdir()
    (weights / "config.json").write_text(json.dumps(tiny()))
    (home / "datasets").mkdir()
    lines = [json.dumps(example(number)) for number in range(10)]
    (home / "datasets" / "a.jsonl").write_text("\n".join(lines))
    return TOML.format(python=python, weights=weights)


def example(number: int) -> dict[str, object]:
    return {
        "messages": [
            {"role": "user", "content": f"What is {number}?"},
            {"role": "assistant", "content": f"It is {number}."},
        ]
    }


def quiet() -> None:
    """Nothing is left to sweep."""


class Trainer:
    def __init__(self, settings: Settings, pool: Pool) -> None:
        self.home = Path(settings.home)
        self.pool = pool
        self.link = training.client(settings.redis)
        self._service = Service(
            "trainer",
            [sys.executable, "-m", "trainer.main"],
            {
                "AIHUB_HOME": settings.home,
                "AIHUB_DATABASE_URL": settings.postgres,
                "AIHUB_REDIS_URL": settings.redis,
                "PYTHONPATH": str(ROOT),
            },
            missing=lambda: None,
        )
        self.server = Server(self._service, self.home)

    def restart(self) -> None:
        """After its death."""
        self.server.wait_exit()
        self.server = Server(self._service, self.home)

    def children(self) -> list[int]:
        below = descendants(self.server.child.pid)
        return [pid for pid in below if CHILD in command_line(pid) and alive(pid)]

    async def create(self, file: str = "a.jsonl", id_: str = "", **asked: object) -> str:
        job = Created(
            id=id_ or ids.new("ftjob-"),
            project="proj_default",
            key="key_test",
            name=None,
            model="tiny",
            method="supervised",
            training_file=file,
            validation_file=None,
            asked=Asked(**asked),  # type: ignore[arg-type]
            suffix="mine",
            seed=1,
            metadata={},
        )
        async with transaction(self.pool) as connection:
            await fine_tuning.insert(connection, job)
        await training.call(self.link, job.id)
        return job.id

    async def move(self, id_: str, to: Status, *origins: Status) -> Status | None:
        async with transaction(self.pool) as connection:
            moved = await fine_tuning.move(connection, id_, "proj_default", to, origins)
        await training.announce(self.link, id_.encode())
        await training.call(self.link, id_)
        return moved

    async def job(self, id_: str) -> Job:
        async with self.pool.connection() as connection:
            found = await fine_tuning.find(connection, id_)
        assert found is not None
        return found

    async def content(self, file: str) -> str:
        """Of an uploaded file."""
        return await asyncio.to_thread((await self.fetch(file)).read_text)

    async def fetch(self, file: str) -> Path:
        files = Files(lambda: self.pool, Disk(self.home / "files"), Bounds(1 << 30, 1 << 30), quiet)
        target = self.home / "fetched"
        await files.fetch("proj_default", file, target)
        return target

    async def events(self, id_: str) -> list[Event]:
        async with self.pool.connection() as connection:
            return await fine_tuning.following(connection, id_, 10_000)

    async def steps(self, id_: str) -> list[object]:
        """Those that were told, in order."""
        return [e.data["step"] for e in await self.events(id_) if e.type == "metrics"]

    async def until(self, id_: str, reached: Callable[[Job], bool]) -> Job:
        deadline = time.monotonic() + WITHIN
        while not reached(job := await self.job(id_)):
            assert self.server.child.exit() is None, self.server.child.log.tail()
            assert time.monotonic() < deadline, (job, self.server.child.log.tail())
            await asyncio.sleep(0.02)
        return job

    async def until_gone(self, pid: int) -> None:
        deadline = time.monotonic() + WITHIN
        while alive(pid):
            assert time.monotonic() < deadline, command_line(pid)
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running_trainer(
    home: Path, database_url: str, redis_url: str, seconds: float = 0.02, behaviour: str = "well"
) -> AsyncIterator[Trainer]:
    """A step of its children takes `seconds`."""
    toml = prepare(home, stand_in(home, seconds, behaviour))
    await asyncio.to_thread((home / "aihub.toml").write_text, toml)
    settings = Settings(home=str(home), database_url=database_url, redis_url=redis_url)
    async with db.connect(settings.postgres) as pool:
        trainer = Trainer(settings, pool)
        try:
            yield trainer
        finally:
            if trainer.server.child.exit() is None:
                await asyncio.to_thread(trainer.server.stop)
            await trainer.link.aclose(close_connection_pool=True)
