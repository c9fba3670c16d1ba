from __future__ import annotations

import json

import msgspec
import pytest

from shared.errors import EngineFailed
from worker.engines.toolcalls import MOST_CALLS, CallReader, CallStream, Fragment, Function

ARGUMENTS = '{"city": "Par\\"is\\\\", "days": [1, {"x": "}"}], "name": "no", "arguments": {}}'
CALL = '{\n  "name": "get_\\u0077eather",\n  "arguments": ' + ARGUMENTS + "\n}\n"


def read(*pieces: str) -> tuple[list[Fragment], str]:
    reader = CallReader()
    given = [entry for piece in pieces for entry in reader.feed(piece)]
    return [f for _, delta in given for f in delta.tool_calls], "".join(raw for raw, _ in given)


def arguments(fragments: list[Fragment]) -> str:
    return "".join((f.function and f.function.arguments) or "" for f in fragments)


@pytest.mark.parametrize("at", range(len(CALL) + 1))
def test_call_split_anywhere(at: int) -> None:
    fragments, raw = read(CALL[:at], CALL[at:])
    assert fragments[0].function == Function("get_weather", "")
    assert fragments[0].type == "function"
    assert (fragments[0].id or "").startswith("call_")
    assert all(f.id is None and f.function and f.function.name is None for f in fragments[1:])
    assert arguments(fragments) == ARGUMENTS
    assert CALL.startswith(raw)
    assert json.loads(arguments(fragments))["days"] == [1, {"x": "}"}]


@pytest.mark.parametrize("at", range(len(CALL) + 1))
def test_resumed_anywhere_gives_the_rest_only(at: int) -> None:
    first, raw = read(CALL[:at])
    later = CallReader()
    later.skip(raw)
    rest = [f for _, delta in later.feed(CALL[len(raw) :]) for f in delta.tool_calls]
    assert arguments(first) + arguments(rest) == ARGUMENTS
    assert len([f for f in first + rest if f.id]) == 1


def test_openings_have_the_keys_clients_read() -> None:
    fragments, _ = read(CALL)
    opening = json.loads(msgspec.json.encode(fragments[0]))
    assert set(opening) == {"index", "id", "type", "function"}
    assert opening["function"] == {"name": "get_weather", "arguments": ""}
    piece = json.loads(msgspec.json.encode(fragments[1]))
    assert set(piece) == {"index", "function"}


def test_engine_fragments_get_an_id_and_stay_in_order() -> None:
    calls = CallStream()
    first = calls.pass_on(Fragment(0, function=Function("f", "{")))
    assert first.id
    assert first.type == "function"
    second = Fragment(0, function=Function(arguments="}"))
    assert calls.pass_on(second) is second


def test_calls_are_bounded() -> None:
    calls = CallStream()
    for index in range(MOST_CALLS):
        calls.pass_on(Fragment(index))
    with pytest.raises(EngineFailed):
        calls.pass_on(Fragment(MOST_CALLS))
