from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.semantic.scope import question_of
from shared.store.semantic import Question

ASKED = {"role": "user", "content": "What is jazz?"}
SYSTEM = {"role": "system", "content": "Be brief."}


def asked(*messages: Any, **fields: Any) -> bytes:
    return msgspec.json.encode({"model": "m", "messages": list(messages), **fields})


def of(body: bytes, **names: str) -> Question | None:
    usual = {"project": "p", "model": "m", "version": "v1", "embedder": "e"}
    return question_of(body, **{**usual, **names})


def test_the_last_text_is_compared_and_the_rest_is_the_scope() -> None:
    one, other = of(asked(SYSTEM, ASKED)), of(asked(SYSTEM, {**ASKED, "content": "And swing?"}))
    assert one is not None
    assert other is not None
    assert (one.text, one.project, one.model) == ("What is jazz?", "p", "m")
    assert len(one.scope) == len(one.digest) == 32
    assert one.scope == other.scope
    assert one.digest != other.digest


@pytest.mark.parametrize(
    "body",
    [
        asked(ASKED),
        asked({**SYSTEM, "content": "Be long."}, ASKED),
        asked(SYSTEM, ASKED, temperature=0.5),
        asked(SYSTEM, ASKED, max_tokens=5),
        asked(SYSTEM, ASKED, tools=[{"type": "function", "function": {"name": "f"}}]),
        asked(SYSTEM, {**ASKED, "name": "Ann"}),
        asked(SYSTEM, ASKED, {"role": "assistant", "content": "Music."}, ASKED),
        asked(SYSTEM, ASKED, seed=None),
    ],
)
def test_anything_else_is_another_scope(body: bytes) -> None:
    usual, other = of(asked(SYSTEM, ASKED)), of(body)
    assert usual is not None
    assert other is not None
    assert usual.scope != other.scope


@pytest.mark.parametrize("name", ["model", "version", "embedder"])
def test_another_model_is_another_scope(name: str) -> None:
    usual, other = of(asked(ASKED)), of(asked(ASKED), **{name: "x"})
    assert usual is not None
    assert other is not None
    assert usual.scope != other.scope


def test_how_it_is_sent_makes_no_difference() -> None:
    usual = of(asked(SYSTEM, ASKED))
    part = {"role": "user", "content": [{"type": "text", "text": "What is jazz?"}]}
    assert of(asked(SYSTEM, ASKED, stream=True, user="u", service_tier="flex")) == usual
    assert of(asked(SYSTEM, part)) == usual


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [SYSTEM],
        [ASKED, {"role": "assistant", "content": "Music."}],
        [{"role": "user", "content": " "}],
        [{"role": "user", "content": "x" * 3000}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
        [{"role": "user", "content": [{"type": "text", "text": "a"}] * 2}],
        [{"role": "tool", "content": "5"}],
    ],
)
def test_what_does_not_end_with_one_text_is_never_shared(messages: list[Any]) -> None:
    assert of(asked(*messages)) is None
