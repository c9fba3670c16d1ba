"""The pipelined connection, fed by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.resp import Address, Connection, Link, Lost


class Wire(asyncio.Transport):
    """Keeps what is written; aborting it loses the connection, as on a socket."""

    def __init__(self, protocol: Connection) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.aborted = False
        self._protocol = protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def abort(self) -> None:
        if not self.aborted:
            self.aborted = True
            self._protocol.connection_lost(None)


def connected(lost: list[bool] | None = None) -> tuple[Connection, Wire]:
    told = [] if lost is None else lost
    connection = Connection(lambda: told.append(True))
    wire = Wire(connection)
    connection.connection_made(wire)
    return connection, wire


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", Address("h", 6379, None, False, ())),
        ("redis://:p%40ss@h:7/3", Address("h", 7, None, False, (("AUTH", "p@ss"), ("SELECT", 3)))),
        ("rediss://u:p@h", Address("h", 6379, None, True, (("AUTH", "u", "p"),))),
        ("unix:///run/s", Address("localhost", 6379, "/run/s", False, ())),
    ],
)
def test_addresses(url: str, address: Address) -> None:
    assert Address.parse(url) == address


async def test_replies_come_in_the_order_of_the_calls() -> None:
    connection, wire = connected()
    calls = [connection.call("GET", name) for name in ("a", "b", "c")]
    await asyncio.sleep(0)
    assert len(wire.written) == 1
    assert wire.written[0].startswith(b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*2")
    connection.data_received(b"$1\r\nx\r\n$-1\r\n-ERR no\r\n")
    assert await calls[0] == b"x"
    assert await calls[1] is None
    with pytest.raises(hiredis.ReplyError, match="no"):
        await calls[2]


async def test_what_was_called_is_sent_before_the_connection_is_closed() -> None:
    connection, wire = connected()
    call = connection.call("DEL", "a")
    connection.close()
    assert wire.written == [b"*2\r\n$3\r\nDEL\r\n$1\r\na\r\n"]
    with pytest.raises(Lost):
        await call
    await asyncio.sleep(0)
    assert len(wire.written) == 1


async def test_a_call_that_was_given_up_does_not_shift_the_others() -> None:
    connection, _ = connected()
    first, second = connection.call("GET", "a"), connection.call("GET", "b")
    first.cancel()
    connection.data_received(b"$1\r\nx\r\n$1\r\ny\r\n")
    assert await second == b"y"


async def test_losing_the_connection_ends_every_call_and_is_told_once() -> None:
    lost: list[bool] = []
    connection, wire = connected(lost)
    calls = [connection.call("PING") for _ in range(3)]
    wire.abort()
    for call in [*calls, connection.call("PING")]:
        with pytest.raises(Lost):
            await call
    assert lost == [True]


async def test_a_server_that_speaks_first_is_left() -> None:
    connection, wire = connected()
    connection.data_received(b"-ERR max number of clients reached\r\n")
    assert wire.aborted


async def test_silence_is_an_owed_reply_without_a_byte() -> None:
    connection, _ = connected()
    assert not connection.is_silent()
    connection.call("BLMPOP", 1, 1, "a", "LEFT")
    assert connection.is_silent()
    connection.data_received(b"$3\r\nab")
    assert not connection.is_silent()
    assert connection.is_silent()
    connection.data_received(b"c\r\n")
    assert not connection.is_silent()
    assert not connection.is_silent()


async def test_a_link_that_never_was_open_says_so() -> None:
    link = Link("redis://127.0.0.1:1", "test")
    with pytest.raises(Lost):
        await link.call("PING")
    with pytest.raises(Lost):
        await link.wait_open(0)
    assert not link.is_open
    await link.stop()


@given(
    st.lists(st.one_of(st.none(), st.integers(-(2**60), 2**60), st.binary(max_size=40))),
    st.integers(1, 7),
)
def test_replies_however_they_are_cut(values: list[Any], size: int) -> None:
    def encoded(value: Any) -> bytes:
        if value is None:
            return b"$-1\r\n"
        if isinstance(value, int):
            return b":%d\r\n" % value
        return b"$%d\r\n%s\r\n" % (len(value), value)

    async def received(pieces: Iterable[bytes]) -> list[Any]:
        connection, _ = connected()
        calls = [connection.call("GET", "x") for _ in values]
        for piece in pieces:
            connection.data_received(piece)
        return [await call for call in calls]

    data = b"".join(map(encoded, values))
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert asyncio.run(received(pieces)) == values
