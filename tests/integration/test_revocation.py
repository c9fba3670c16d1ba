"""A revoked key over four gateways: at once with the message, within 10 s without it."""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Iterator

import psycopg
import pytest

from shared.settings import Settings
from tests.contract.client import Client
from tests.hub import Hub, running_hub

GATEWAYS = 4
PROMISED = 10.0
"""Seconds after which no request with the key may pass."""
PROCESS = re.compile(r'aihub_gateway_info\{process="([^"]+)"\}')


class Line:
    """One connection, which belongs to one gateway process."""

    def __init__(self, hub: Hub) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=10)
        self.process = PROCESS.findall(self.get("/metrics", hub.key)[1])[0]

    def get(self, path: str, key: str) -> tuple[int, str]:
        self._connection.request("GET", path, headers={"Authorization": f"Bearer {key}"})
        reply = self._connection.getresponse()
        return reply.status, reply.read().decode()

    def passes(self, key: str) -> bool:
        status = self.get("/v1/models", key)[0]
        assert status in (200, 401)
        return status == 200

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with running_hub(AIHUB_GATEWAYS=str(GATEWAYS)) as hub:
        yield hub


@pytest.fixture
def lines(hub: Hub) -> Iterator[list[Line]]:
    """One connection to each gateway."""
    found: dict[str, Line] = {}
    deadline = time.monotonic() + 30
    while len(found) < GATEWAYS:
        assert time.monotonic() < deadline, sorted(found)
        line = Line(hub)
        if found.setdefault(line.process, line) is not line:
            line.close()
    yield list(found.values())
    for line in found.values():
        line.close()


def test_over_four_gateways(hub: Hub, lines: list[Line]) -> None:
    client = Client(hub.base_url, hub.key)
    for told in (True, False):
        made = client.send("POST", "//api/v1/admin/keys", b'{"name": "gone"}').json
        assert all(line.passes(made["value"]) for line in lines)
        revoked = revoke(client, made["id"]) if told else revoke_silently(hub, made["id"])
        last, asked, passed = watch(lines, made["value"], revoked)
        print(
            f"\nrevoked {'with' if told else 'without'} the message, {GATEWAYS} gateways:"
            f" {passed} of {asked} requests passed, the last {last:.3f} s after;"
            f" {sum(line.passes(made['value']) for line in lines)} pass now"
        )
        assert last < (1.0 if told else PROMISED)
        assert not any(line.passes(made["value"]) for line in lines for _ in range(25))


def revoke(client: Client, id_: str) -> float:
    assert client.send("DELETE", f"//api/v1/admin/keys/{id_}").status == 200
    return time.monotonic()


def revoke_silently(hub: Hub, id_: str) -> float:
    """As if Redis had lost the message."""
    url = f"postgresql://aihub@/aihub?host={Settings(home=str(hub.home)).sockets}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE api_key SET revoked_at = now() WHERE id = %s", (id_,))
    return time.monotonic()


def watch(lines: list[Line], key: str, since: float) -> tuple[float, int, int]:
    """Asks every gateway in turn until each has refused the key.

    Returns when the last one did, in seconds after `since`, and how many asked and passed.
    """
    last, asked, passed = 0.0, 0, 0
    left = set(lines)
    while left and time.monotonic() - since < PROMISED + 5:
        for line in lines:
            asked += 1
            if line.passes(key):
                passed += 1
                last = time.monotonic() - since
            else:
                left.discard(line)
    return last, asked, passed
