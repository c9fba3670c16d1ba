"""Deltas joined into whole choices."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from shared.answer import Assembly
from shared.wire.event import Choice


def call(index: int, arguments: str, name: str | None = None, id_: str | None = None) -> bytes:
    function: dict[str, str] = {"arguments": arguments}
    if name is not None:
        function["name"] = name
    piece: dict[str, object] = {"index": index, "function": function}
    if id_ is not None:
        piece["id"] = id_
    return json.dumps({"tool_calls": [piece]}).encode()


def test_nothing_is_an_empty_text() -> None:
    assert Assembly().choice("stop") == Choice("", "stop")


@given(st.lists(st.tuples(st.booleans(), st.text())))
def test_text_is_joined_however_it_came(pieces: list[tuple[bool, str]]) -> None:
    whole = Assembly()
    for plain, text in pieces:
        if plain:
            whole.text(text)
        else:
            whole.delta(json.dumps({"content": text}).encode(), b"")
    assert whole.choice("length") == Choice("".join(text for _, text in pieces), "length")


def test_interleaved_calls_are_put_together_in_their_order() -> None:
    whole = Assembly()
    whole.delta(call(1, "", "g", "call-1"), b"")
    whole.delta(call(0, '{"a"', "f", "call-0"), b"")
    whole.delta(call(1, "{}"), b"")
    whole.delta(call(0, ":1}"), b"")
    choice = whole.choice("tool_calls")
    assert choice.text is None
    calls = json.loads(choice.tool_calls)
    assert [(c["id"], c["type"], c["function"]) for c in calls] == [
        ("call-0", "function", {"name": "f", "arguments": '{"a":1}'}),
        ("call-1", "function", {"name": "g", "arguments": "{}"}),
    ]


def test_text_beside_a_call_stays() -> None:
    whole = Assembly()
    whole.text("I look.")
    whole.delta(call(0, "{}", "f", "c"), b"")
    assert whole.choice("tool_calls").text == "I look."


def test_reasoning_is_apart_from_content() -> None:
    whole = Assembly()
    whole.delta(b'{"reasoning_content":"hm"}', b"")
    whole.delta(b'{"reasoning_content":"m"}', b"")
    whole.text("yes")
    assert whole.choice("stop") == Choice("yes", "stop", reasoning="hmm")


def test_chat_logprobs_are_one_list() -> None:
    whole = Assembly()
    for piece in ("a", "b"):
        logprobs = {"content": [{"token": piece, "logprob": -0.5}], "refusal": None}
        whole.delta(json.dumps({"content": piece}).encode(), json.dumps(logprobs).encode())
    found = json.loads(whole.choice("stop").logprobs)
    assert [one["token"] for one in found["content"]] == ["a", "b"]


def test_completion_logprobs_are_four_lists() -> None:
    whole = Assembly()
    for number, piece in enumerate(("a", "b")):
        logprobs = {
            "tokens": [piece],
            "token_logprobs": [-0.5],
            "top_logprobs": [{piece: -0.5}] if number else None,
            "text_offset": [number],
        }
        whole.delta(json.dumps({"content": piece}).encode(), json.dumps(logprobs).encode())
    assert json.loads(whole.choice("stop").logprobs) == {
        "tokens": ["a", "b"],
        "token_logprobs": [-0.5, -0.5],
        "top_logprobs": [{"b": -0.5}],
        "text_offset": [0, 1],
    }
