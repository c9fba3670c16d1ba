"""`model: "auto"` and what the header says of it, against the running hub."""

from __future__ import annotations

import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from tests.hub import Hub

HELLO = [{"role": "user", "content": "Say hello."}]


@pytest.fixture
def client(hub: Hub) -> OpenAI:
    return OpenAI(base_url=hub.base_url, api_key=hub.key, max_retries=0)


def test_auto_answers_with_a_real_model_and_says_why(hub: Hub, client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="auto",
        messages=HELLO,  # type: ignore[arg-type]
        max_tokens=4,
    )
    assert raw.parse().model == hub.chat_model
    assert raw.headers["x-aihub-route"].startswith(f"{hub.chat_model}; ")


def test_auto_can_be_restricted(hub: Hub, client: OpenAI) -> None:
    with pytest.raises(NotFoundError):
        client.chat.completions.create(
            model="auto",
            messages=HELLO,  # type: ignore[arg-type]
            extra_headers={"x-aihub-models": "nobody"},
        )
    with pytest.raises(BadRequestError) as raised:
        client.chat.completions.create(
            model="auto",
            messages=HELLO,  # type: ignore[arg-type]
            extra_headers={"x-aihub-quality": "cheapest"},
        )
    assert raised.value.param == "x-aihub-quality"
