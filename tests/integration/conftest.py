"""What several files of tests over the wire or a database begin with."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from shared.db import Pool, connect
from shared.resp import Link
from shared.settings import Settings
from tests import models, native
from tests.caller import Caller
from tests.file_project import Project
from tests.gateway import running_gateway
from tests.hub import Hub
from tests.integration.fine_tuning import LINE, TOML, Place
from tests.native import Upstream
from tests.trainers import Trainer, running_trainer


@pytest.fixture(scope="module")
def lent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the model files."""
    home = tmp_path_factory.mktemp("lent")
    models.lend(home)
    return home


@pytest.fixture(scope="module")
def upstream(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    """One that counts tokens, 250 a second for each stream."""
    path = tmp_path_factory.mktemp("up") / "s"
    with native.upstream(programs, path, "--pace-ms", "4") as running:
        yield running


@pytest.fixture
async def link(valkey_url: str) -> AsyncIterator[Link]:
    link = Link(valkey_url, "test")
    await link.start()
    await link.wait_open(5)
    yield link
    await link.stop()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with connect(database_url) as pool:
        yield pool


@pytest.fixture
async def quick(home: Path, database_url: str, valkey_url: str) -> AsyncIterator[Trainer]:
    async with running_trainer(home, database_url, valkey_url) as trainer:
        yield trainer


@pytest.fixture
async def slow(home: Path, database_url: str, valkey_url: str) -> AsyncIterator[Trainer]:
    async with running_trainer(home, database_url, valkey_url, seconds=0.1) as trainer:
        yield trainer


@pytest.fixture
def place(database_url: str, valkey_url: str, home: Path) -> Iterator[Place]:
    (home / "datasets").mkdir()
    (home / "datasets" / "a.jsonl").write_text(LINE * 10)
    (home / "b.jsonl").write_text(LINE)
    settings = Settings(home=str(home), database_url=database_url, redis_url=valkey_url)
    with running_gateway(settings, TOML) as base_url:
        place = Place(base_url, database_url)
        try:
            yield place
        finally:
            place.sdk.close()


@pytest.fixture
def new_project() -> Iterator[Callable[..., Project]]:
    """Makes projects whose clients are closed in the end."""
    with contextlib.ExitStack() as until:

        def make(hub: Hub, **fields: Any) -> Project:
            project = Project(hub, **fields)
            until.callback(project.sdk.close)
            return project

        yield make


@pytest.fixture
def project(hub: Hub, new_project: Callable[..., Project]) -> Project:
    """One in the hub that tests share."""
    return new_project(hub)


@pytest.fixture
def admin(hub: Hub) -> Iterator[Caller]:
    """The first key of the hub."""
    admin = Caller(hub, hub.key)
    yield admin
    admin.sdk.close()


@pytest.fixture
def caller(hub: Hub, admin: Caller) -> Iterator[Caller]:
    """A key of a project of its own, which may ask models and nothing else."""
    name = f"usage {uuid4().hex}"
    project = admin.send("POST", "/api/v1/admin/projects", {"name": name}).json["id"]
    made = admin.send("POST", "/api/v1/admin/keys", {"name": "usage", "project": project}).json
    caller = Caller(hub, made["value"])
    caller.project, caller.id = project, made["id"]
    yield caller
    caller.sdk.close()
