from __future__ import annotations

import json

import pytest

from shared.errors import EngineFailed
from tests.unit.worker.engines.recorder import Recorder
from worker.engines.replay import Prefix, ReplaySink, calls_behind
from worker.engines.toolcalls import CallReader

CALL = '{"name": "f", "arguments": {"city": "Rome"}}'


def test_what_was_given_is_dropped() -> None:
    sink = Recorder()
    replay = ReplaySink(sink, Prefix('{"a": 1'))
    for piece in ('{"a"', ": ", "12", "}"):
        replay.text(piece)
    replay.finish("stop")
    assert sink.texts == ["2", "}"]
    assert sink.reasons == ["stop"]


@pytest.mark.parametrize("pieces", [["{'a"], ['{"', "b"]])
def test_another_turn(pieces: list[str]) -> None:
    replay = ReplaySink(Recorder(), Prefix('{"a": 1'))
    with pytest.raises(EngineFailed, match="another turn"):
        for piece in pieces:
            replay.text(piece)


def test_an_end_before_the_given_end() -> None:
    replay = ReplaySink(Recorder(), Prefix("ab"))
    replay.text("a")
    with pytest.raises(EngineFailed, match="another turn"):
        replay.finish("stop")


def test_deltas_with_logprobs() -> None:
    sink = Recorder()
    replay = ReplaySink(sink, Prefix("ab"))
    replay.delta("ab", b'{"content":"ab"}', b"{}")
    replay.delta("c", b'{"content":"c"}', b"{}")
    assert sink.raw == "c"
    replay = ReplaySink(Recorder(), Prefix("ab"))
    with pytest.raises(EngineFailed, match="another turn"):
        replay.delta("abc", b"{}", b"{}")


@pytest.mark.parametrize("cut", range(len(CALL)))
def test_a_call_cut_anywhere(cut: int) -> None:
    whole = CallReader()
    deltas = [delta for _, delta in whole.feed(CALL)]
    before = [delta for _, delta in CallReader().feed(CALL[:cut])]
    reader = calls_behind(CALL[:cut])
    after = [delta for letter in CALL for _, delta in reader.feed(letter)]
    arguments = "".join(
        call.function.arguments or ""
        for delta in [*before, *after]
        for call in delta.tool_calls
        if call.function is not None
    )
    assert json.loads(arguments) == {"city": "Rome"}
    opened = [call for delta in [*before, *after] for call in delta.tool_calls if call.id]
    assert len(opened) == len([c for d in deltas for c in d.tool_calls if c.id]) == 1
