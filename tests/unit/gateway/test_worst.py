"""What is reserved is never less than what a request can take."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.worst import COMPLETION, TEMPLATE, TOOLS, Worst, of_chat, of_completion, of_embedding
from shared.settings import Model
from shared.wire.account import Price
from shared.wire.openai import chat, completion, embedding

OURS = Model(engine="llamacpp", file="m.gguf", context=4096)
REMOTE = Model(engine="openai", url="http://localhost:1/v1", context=4096)
CL100K = Model(
    engine="llamacpp", kind="embedding", file="e.gguf", context=512, token_input="cl100k"
)


def asked(model: Model = OURS, **more: Any) -> tuple[Worst, int]:
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], **more}
    data = json.dumps(body).encode()
    return of_chat(chat.decode(data), model, len(data)), len(data)


def test_a_chat_without_a_limit_may_fill_the_context() -> None:
    worst, size = asked()
    assert worst == Worst(size + TEMPLATE, 4096, 1)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_chat_takes_what_it_asks_for_of_each_choice(name: str) -> None:
    worst, size = asked(n=3, **{name: 10})
    assert worst == Worst(size + TEMPLATE, 10, 3)
    assert worst.tokens == size + TEMPLATE + 30
    assert asked(**{name: 10**9})[0].completion == 4096


def test_tools_and_forms_take_more_of_the_prompt() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    worst, size = asked(tools=[tool])
    assert worst.prompt == size + TEMPLATE + TOOLS
    worst, size = asked(response_format={"type": "json_object"})
    assert worst.prompt == size + TEMPLATE + TOOLS


def test_the_context_bounds_the_prompt_of_our_engines_only() -> None:
    long = [{"role": "user", "content": "x" * 9000}]
    assert asked(messages=long)[0].prompt == 4096
    assert asked(REMOTE, messages=long)[0].prompt > 9000


def test_a_picture_may_fill_the_context() -> None:
    url = {"type": "image_url", "image_url": {"url": "http://a/b"}}
    assert asked(messages=[{"role": "user", "content": [url]}])[0].prompt == 4096


def complete(model: Model = OURS, **body: Any) -> tuple[Worst, int]:
    data = json.dumps({"model": "m", **body}).encode()
    return of_completion(completion.decode(data), model, len(data)), len(data)


def test_a_completion_counts_prompts_times_choices() -> None:
    worst, size = complete(prompt=["a", "b"], n=2, max_tokens=7)
    assert worst == Worst(size, 7, 4)


def test_a_completion_that_says_nothing_gets_openais_default_or_the_models() -> None:
    assert complete(prompt="a")[0].completion == COMPLETION
    model = Model(engine="llamacpp", file="m.gguf", defaults={"max_tokens": 100})
    assert complete(model, prompt="a")[0].completion == 100


def embed(model: Model, given: Any) -> tuple[Worst, int]:
    data = json.dumps({"model": "m", "input": given}).encode()
    return of_embedding(embedding.decode(data), model, len(data)), len(data)


def test_an_embedding_is_all_prompt() -> None:
    worst, size = embed(CL100K, ["a", "b"])
    assert worst == Worst(size)
    assert worst.tokens == size


def test_a_foreign_token_may_stand_for_a_long_text() -> None:
    assert embed(CL100K, [[100_257], [3]])[0].prompt == 2 * 512
    assert embed(CL100K, [1, 2, 3])[0].prompt == 512


def test_money_counts_the_dearest_prompt_and_all_of_the_time() -> None:
    worst = Worst(1_000_000, 10, 2)
    assert worst.micros(Price(input=5, cached=9), 600) == 9
    assert worst.micros(Price(output=1_000_000), 600) == 20
    assert worst.micros(Price(gpu_second=3), 600) == 1_800
    assert worst.micros(None, 600) == 0
