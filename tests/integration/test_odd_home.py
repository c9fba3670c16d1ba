"""A state folder whose name means something inside a URL."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import psycopg
import redis

from deploy import migrate
from shared.settings import Settings
from tests.server import running_postgres, running_valkey

ODD = """ a&b%20#c?d=e'f"g\\h,é+@~:$x*[y]"""


def test_databases_start_and_are_found_in_a_home_of_any_name(home: Path) -> None:
    settings = Settings(home=str(home / ODD))
    with (
        contextlib.ExitStack() as end,
        running_postgres(settings, "fsync = off"),
        running_valkey(settings),
    ):
        end.callback(shutil.rmtree, settings.sockets)
        migrate.run(settings)
        with psycopg.connect(settings.postgres) as connection:
            assert connection.execute("SELECT count(*) FROM api_key").fetchone() == (0,)
        with redis.Redis.from_url(settings.redis) as client:
            assert client.ping()
