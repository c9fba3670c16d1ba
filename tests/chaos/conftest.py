"""A hub that may be broken: real processes, the real model, and a fake upstream that counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from shared import keys
from shared.settings import DEFAULT_MODELS
from tests import native
from tests.hub import Hub, running_hub
from tests.native import Load, Upstream

PLACES = 16
QUEUE = 64
LIVING = (
    "aihub:workers",
    "aihub:worker:",
    "aihub:keepers:",
    "aihub:reply:",
    "aihub:queue:cpu:health-check",
    "aihub:usage",
)
"""Keys that a hub at rest has."""

figures = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[figures] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = terminalreporter.config.stash.get(figures, [])
    if lines:
        terminalreporter.section("chaos figures")
        for line in lines:
            terminalreporter.line(line)


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Adds a line to the figures printed at the end of the run."""
    lines = request.config.stash[figures]
    return lambda text: lines.append(f"{request.node.name:<48} {text}")


@pytest.fixture(scope="session")
def upstream(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    path = tmp_path_factory.mktemp("up") / "s"
    with native.upstream(programs, path, "--pace-ms", "20", "--pace-json") as running:
        yield running


@pytest.fixture(scope="module")
def frail(upstream: Upstream) -> Iterator[Hub]:
    """A hub with the embedded models and `counting`, the fake upstream."""
    chat = DEFAULT_MODELS[Hub.chat_model]
    toml = f"""
queue_limit = {QUEUE}
[models.counting]
engine = "openai"
url = "unix:{upstream.path}"
parallel = {PLACES}
[models.{Hub.chat_model}]
engine = "llamacpp"
file = "{chat.file}"
"""
    with running_hub(toml) as hub:
        yield hub


@pytest.fixture
def sound(frail: Hub) -> Iterator[Hub]:
    """The hub, whole before the test; afterwards it is whole again and nothing is left over."""
    frail.wait_ready()
    yield frail
    frail.wait_ready()
    left = leftovers(frail)
    deadline = time.monotonic() + 20
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        left = leftovers(frail)
    assert not left


def leftovers(hub: Hub) -> list[str]:
    """Redis keys of requests that are over."""
    with redis.Redis(unix_socket_path=str(hub.home / "run" / "valkey.sock")) as client:
        names = [name.decode() for name in client.scan_iter()]
        gone = [
            name
            for name in names
            if name.startswith("aihub:worker:") and client.zscore(keys.WORKERS, name[13:]) is None
        ]
    return [name for name in names if not name.startswith(LIVING)] + gone


class Stream:
    """Starts loads on the hub's `counting` model."""

    def __init__(self, programs: Path, hub: Hub) -> None:
        self._programs = programs
        self._hub = hub

    def __call__(self, *flags: str, model: str = "counting") -> Load:
        return Load(self._programs, self._hub.url, self._hub.key, model, *flags)


@pytest.fixture
def load(programs: Path, sound: Hub) -> Stream:
    return Stream(programs, sound)
