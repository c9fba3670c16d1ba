"""multipart/form-data that comes in pieces of any size."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gateway import exchange, form
from gateway.form import Closed, Field, Item, Opened
from shared.errors import BodyTooLarge, ClientClosed, HubError, InvalidRequest
from tests.unit.gateway.test_exchange import Connection, part

CONTENT = b"--x\r\n\r\n--x" + bytes(range(256)) + b"\r\n--"
LIMIT = 10_000


def section(name: str, value: bytes, filename: str | None = None) -> bytes:
    more = "" if filename is None else f'; filename="{filename}"'
    head = f'--XX\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + value + b"\r\n"


def body(*sections: bytes) -> bytes:
    return b"".join(sections) + b"--XX--\r\n"


WHOLE = body(section("purpose", b"evals"), section("file", CONTENT, "ä.jsonl"))


async def items(
    *pieces: bytes, limit: int = LIMIT, kind: str = "multipart/form-data; boundary=XX"
) -> list[Item]:
    messages = [part(piece, more=True) for piece in pieces]
    connection = Connection(*messages, part(b""))
    sent = connection.exchange(content_type=kind)
    return [item async for item in form.read(sent, "file", ("purpose",), limit)]


@given(some.lists(some.integers(1, len(WHOLE) - 1), max_size=8))
async def test_it_may_be_cut_anywhere(cuts: list[int]) -> None:
    ends = [0, *sorted(set(cuts)), len(WHOLE)]
    pieces = [WHOLE[start:end] for start, end in pairwise(ends)]
    found = await items(*pieces)
    assert found[:2] == [Field("purpose", "evals"), Opened("ä.jsonl")]
    assert b"".join(item for item in found if isinstance(item, bytes)) == CONTENT
    assert found[-1] == Closed()


@pytest.mark.parametrize(
    ("sent", "code", "param"),
    [
        (body(section("colour", b"red")), "unsupported_parameter", "colour"),
        (body(section("purpose", b"a"), section("purpose", b"b")), "invalid_value", "purpose"),
        (body(section("purpose", b"\xff")), "invalid_value", "purpose"),
        (body(section("purpose", b"a\x00")), "invalid_value", "purpose"),
        (body(section("purpose", b"a" * 70_000)), "invalid_value", "purpose"),
        (body(section("file", b"text")), "invalid_type", "file"),
        (body(section("purpose", b"text", "name")), "invalid_type", "purpose"),
        (b"nonsense" * 20, None, None),
        (WHOLE[:-10], None, None),
        (b"", None, None),
        (body(*[section("purpose", b"")] * 40), "invalid_value", "purpose"),
    ],
)
async def test_what_is_wrong_with_it(sent: bytes, code: str | None, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as wrong:
        await items(sent)
    assert (wrong.value.status, wrong.value.code, wrong.value.param) == (400, code, param)


@pytest.mark.parametrize("kind", ["application/json", "", "multipart/form-data"])
async def test_another_content_type(kind: str) -> None:
    with pytest.raises(InvalidRequest, match="multipart/form-data"):
        await items(WHOLE, kind=kind)


async def test_no_more_is_read_than_allowed() -> None:
    huge = section("file", b"a" * (form.FRAME + 2000), "a")
    connection = Connection(part(huge, more=True), part(b"", more=True), part(body()))
    sent = connection.exchange(content_type="multipart/form-data; boundary=XX")
    with pytest.raises(BodyTooLarge):
        async for _ in form.read(sent, "file", (), 1000):
            pass
    assert connection.received == 1


async def test_a_client_that_leaves() -> None:
    messages: list[dict[str, Any]] = [part(WHOLE[:200], more=True), {"type": "http.disconnect"}]
    sent = Connection(*messages).exchange(content_type="multipart/form-data; boundary=XX")
    reading = form.read(sent, "file", ("purpose",), LIMIT)
    assert [await anext(reading), await anext(reading)][1] == Opened("ä.jsonl")
    with pytest.raises(ClientClosed):
        while await anext(reading) != Closed():
            pass


async def test_a_client_that_sends_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SILENT_SECONDS", "PIECES_SECONDS"):
        with monkeypatch.context() as patched:
            patched.setattr(exchange, name, 0.01)
            connection = Connection(part(WHOLE[:200], more=True))
            sent = connection.exchange(content_type="multipart/form-data; boundary=XX")
            with pytest.raises(InvalidRequest, match="within"):
                async for _ in form.read(sent, "file", ("purpose",), LIMIT):
                    pass


@given(some.binary(max_size=300))
async def test_any_bytes_are_a_form_or_an_error(sent: bytes) -> None:
    try:
        await items(b"--XX\r\n" + sent)
    except HubError as error:
        assert error.status == 400
