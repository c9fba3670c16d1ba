"""One PostgreSQL and one Valkey a test run; a fresh database or an empty keyspace a test."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import hypothesis
import psycopg
import pytest
import redis
from psycopg import sql

from deploy import migrate
from shared.settings import Settings
from shared.store import cluster
from tests import native
from tests.fakes.nvml.card import GIB, FakeNvml, build, fake_nvml
from tests.hub import Hub, running_hub
from tests.server import running_postgres, running_valkey, temporary_home

hypothesis.settings.register_profile(
    "busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy")
"""How long one example takes says nothing where others use the machine too."""
pytest.register_assert_rewrite(
    *("tests.asking", "tests.engine_claims"),
    *("tests.integration.fine_tuning", "tests.integration.card_place"),
)

FAST = ("fsync = off", "synchronous_commit = off", "full_page_writes = off")
"""These servers need not survive a power cut."""

numbers = count()


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the fake upstream and the load generator."""
    return native.build(tmp_path_factory.mktemp("native"))


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty state folder, for Settings(home=str(home))."""
    with temporary_home() as path:
        yield path


@pytest.fixture(scope="session")
def postgres() -> Iterator[Settings]:
    """The settings of a running embedded server. Its database `aihub` does not exist yet."""
    with temporary_home() as path:
        settings = Settings(home=str(path))
        with running_postgres(settings, *FAST):
            yield settings


@pytest.fixture(scope="session")
def migrated(postgres: Settings) -> Settings:
    """The same server with the database `aihub` at the head: the template, not to be used."""
    migrate.run(postgres)
    return postgres


@pytest.fixture
def empty_database_url(postgres: Settings) -> Iterator[str]:
    """A database without tables or extensions, owned by role aihub."""
    yield from fresh_database(postgres, "template1", f"empty_{next(numbers)}")


@pytest.fixture
def database_url(migrated: Settings) -> Iterator[str]:
    """A database at the head of the migrations that no other test has touched."""
    yield from fresh_database(migrated, "aihub", f"test_{next(numbers)}")


def fresh_database(settings: Settings, template: str, name: str) -> Iterator[str]:
    with psycopg.connect(cluster.superuser(settings), autocommit=True) as connection:
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER aihub STRATEGY file_copy")
        drop = sql.SQL("DROP DATABASE {} WITH (FORCE)")
        cluster.ensure_role(connection)
        connection.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
        yield f"postgresql://aihub@/{name}?host={settings.sockets}"
        connection.execute(drop.format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def valkey() -> Iterator[Settings]:
    """The settings of a running embedded server."""
    with temporary_home() as path:
        settings = Settings(home=str(path))
        with running_valkey(settings):
            yield settings


@pytest.fixture
def valkey_url(valkey: Settings) -> str:
    """The session's server, emptied."""
    with redis.Redis.from_url(valkey.redis) as client:
        client.flushall()
    return valkey.redis


@pytest.fixture(scope="session")
def hub() -> Iterator[Hub]:
    """The whole hub with the embedded default, shared by the tests that do not break it."""
    with running_hub() as running:
        yield running


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake libnvidia-ml.so.1."""
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def nvml(nvml_library: Path, tmp_path: Path) -> Iterator[FakeNvml]:
    """A machine with a card of 16 GiB and one of 8, for processes with its `environment`."""
    with fake_nvml(nvml_library, tmp_path / "nvml", 16 * GIB, 8 * GIB) as machine:
        yield machine


@pytest.fixture
def nvml_here(nvml: FakeNvml, nvml_library: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """The fake cards, seen by this process and those that it starts.

    LD_LIBRARY_PATH is read when a process starts; a library that is already loaded under its
    soname is what nvidia-ml-py gets here.
    """
    ctypes.CDLL(str(nvml_library))
    for name, value in nvml.environment.items():
        monkeypatch.setenv(name, value)
    return nvml
