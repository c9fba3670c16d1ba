"""A Valkey whose password does not fit into a URL as it is."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
import redis
from arq.connections import create_pool

from deploy.check import State, parts
from shared.redact import redact
from shared.resp import Link
from worker.arq_redis import arq_settings

PASSWORD = "p@ss w%41rd/#?:&é"
USER = "hub+user"


@pytest.fixture
def guarded_url(valkey_url: str) -> Iterator[str]:
    """The session's server through an account with this password."""
    with redis.Redis.from_url(valkey_url) as admin:
        rule = ("on", f">{PASSWORD}", "allkeys", "allchannels", "allcommands")
        admin.execute_command("ACL", "SETUSER", USER, *rule)
        path = valkey_url.removeprefix("unix://")
        yield f"unix://{quote(USER)}:{quote(PASSWORD, safe='')}@{path}"
        admin.execute_command("ACL", "DELUSER", USER)


async def test_link_and_arq_log_in(guarded_url: str) -> None:
    link = Link(guarded_url, "test")
    await link.start()
    await link.wait_open(5)
    assert await link.call("ACL", "WHOAMI") == USER.encode()
    await link.stop()
    pool = await create_pool(arq_settings(guarded_url))
    assert await pool.acl_whoami() in (USER, USER.encode())
    await pool.aclose()


def test_it_is_checked_and_not_shown(guarded_url: str) -> None:
    assert parts.redis_server(guarded_url).state is State.OK
    assert PASSWORD not in parts.redis_server(guarded_url).found
    wrong = guarded_url.replace("@/", "x@/")
    assert parts.redis_server(wrong).state is State.FAIL
    assert quote(PASSWORD, safe="") not in redact("redis_url", guarded_url)


@pytest.mark.parametrize(
    ("url", "host", "port", "database", "tls"),
    [
        ("redis://h", "h", 6379, 0, False),
        ("rediss://:p@h:7/3", "h", 7, 3, True),
        ("redis://h?db=2", "h", 6379, 2, False),
    ],
)
def test_arq_gets_the_whole_url(url: str, host: str, port: int, database: int, tls: bool) -> None:
    read = arq_settings(url)
    assert (read.host, read.port, read.database, read.ssl) == (host, port, database, tls)
