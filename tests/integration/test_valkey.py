from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
import redis

from deploy.embedded import valkey
from deploy.embedded.folder import EmbeddedError
from shared.settings import Settings
from tests.server import Server, quiet, running_valkey


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings(home=str(home))


def client(settings: Settings) -> redis.Redis:
    return redis.Redis.from_url(settings.redis, decode_responses=True)


def test_it_listens_on_one_private_socket_only(settings: Settings) -> None:
    with running_valkey(settings), client(settings) as connection:
        assert connection.config_get("port") == {"port": "0"}
        path = settings.sockets / "valkey.sock"
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700


def test_what_was_written_survives_a_stop(settings: Settings) -> None:
    with running_valkey(settings) as server, client(settings) as connection:
        connection.set("word", "kept")
        assert server.stop() == 0
    with running_valkey(settings), client(settings) as connection:
        assert connection.get("word") == "kept"


def test_a_killed_server_starts_again_with_its_data(settings: Settings) -> None:
    with running_valkey(settings) as server, client(settings) as connection:
        connection.set("word", "kept")
        connection.execute_command("WAITAOF", 1, 0, 5000)
        server.child.signal(signal.SIGKILL)
        assert server.wait_exit() == -signal.SIGKILL
        again = Server(server.service, settings.folder)
        again.wait_ready()
        assert connection.get("word") == "kept"
        again.stop()


def test_a_second_hub_is_refused(settings: Settings) -> None:
    with (
        running_valkey(settings),
        pytest.raises(EmbeddedError, match=f"Another hub .process {os.getpid()}. already runs"),
    ):
        valkey.prepare(settings, quiet)


def test_a_server_without_a_supervisor_is_stopped_first(settings: Settings) -> None:
    lock = valkey.prepare(settings, quiet)
    orphan = Server(valkey.service(settings), settings.folder)
    orphan.wait_ready()
    os.close(lock)
    os.close(valkey.prepare(settings, quiet))
    assert orphan.wait_exit() == 0


def test_a_server_that_is_not_there_is_missing(settings: Settings) -> None:
    os.close(valkey.prepare(settings, quiet))
    assert "connect" in str(valkey.service(settings).missing()).lower()


def test_the_configuration_bounds_what_a_crash_can_lose(settings: Settings) -> None:
    with running_valkey(settings), client(settings) as connection:
        for name, value in {"appendonly": "yes", "appendfsync": "everysec", "save": ""}.items():
            assert connection.config_get(name) == {name: value}


def test_only_functions_of_the_hub_are_dropped(settings: Settings) -> None:
    def library(name: str) -> str:
        return f"#!lua name={name}\nredis.register_function('{name}', function() return 1 end)"

    with running_valkey(settings), client(settings) as connection:
        for name in ("aihub_a_1", "aihub_b_2", "theirs"):
            connection.function_load(library(name))
        valkey.drop_functions(settings)
        assert [listed[1] for listed in connection.function_list()] == ["theirs"]
    with pytest.raises(EmbeddedError, match="functions"):
        valkey.drop_functions(settings)


def test_an_odd_path_is_quoted(home: Path) -> None:
    settings = Settings(home=str(home / 'a "b" c'))
    with running_valkey(settings), client(settings) as connection:
        assert connection.ping()


def test_the_package_runs_as_it_is(settings: Settings) -> None:
    ended = subprocess.run([str(valkey.binary()), "--version"], capture_output=True, timeout=10)
    assert b"v=9." in ended.stdout
