"""What those who wait are told, while one model holds the room that another needs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from tests.hub import Hub, running_hub

MODEL = """
[models.{name}]
engine = "llamacpp"
file = "{file}"
kind = "chat"
context = 3000
parallel = 1
threads = 1
preload = {preload}
"""
PATH = "/chat/completions"
COUNT = [{"role": "user", "content": "Count from one to a hundred in words."}]
COMMENT = re.compile(r": waiting; position (\d+); about (\d+) s; (.+)")


@pytest.fixture(scope="module")
def narrow() -> Iterator[Hub]:
    """A hub with room for one of two models, each with one place."""
    file = "smollm2-135m-instruct.q8_0.gguf"
    toml = MODEL.format(name="first", file=file, preload="true")
    toml += MODEL.format(name="second", file=file, preload="false")
    with running_hub(toml, AIHUB_MEMORY="380MB", AIHUB_DRAIN_TIMEOUT="1") as hub:
        yield hub


def body(model: str, tokens: int, *, stream: bool) -> dict[str, Any]:
    """A request whose answer does not end before it has so many tokens."""
    return {
        "model": model,
        "messages": COUNT,
        "max_tokens": tokens,
        "logit_bias": {"0": -100, "2": -100},
        "stream": stream,
    }


def posted(hub: Hub, body: dict[str, Any]) -> httpx.Response:
    headers = {"Authorization": f"Bearer {hub.key}"}
    return httpx.post(hub.base_url + PATH, json=body, headers=headers, timeout=90)


def told_by_sdk(hub: Hub) -> str:
    client = openai.OpenAI(base_url=hub.base_url, api_key=hub.key, max_retries=0)
    with client:
        stream = client.chat.completions.create(
            model="second",
            messages=[{"role": "user", "content": "Count from one to ten in words."}],
            max_tokens=8,
            stream=True,
        )
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream)


def test_waiting_streams_are_told_their_place_and_the_others_in_headers(narrow: Hub) -> None:
    headers = {"Authorization": f"Bearer {narrow.key}"}
    with (
        httpx.Client(base_url=narrow.base_url, headers=headers, timeout=90) as client,
        ThreadPoolExecutor(2) as pool,
        client.stream(
            "POST", "/chat/completions", json=body("first", 2800, stream=True)
        ) as holding,
    ):
        assert holding.status_code == 200
        held = holding.iter_raw()
        assert next(held)
        with client.stream("POST", PATH, json=body("second", 8, stream=True)) as waiting:
            lines = waiting.iter_lines()
            first = COMMENT.fullmatch(next(lines))
            assert first is not None, narrow.log.read_text()
            assert first[1] == "1"
            assert "second takes" in first[3], first[3]
            assert waiting.headers["x-aihub-queue-position"] == "1"
            assert int(waiting.headers["x-aihub-expected-wait-ms"]) > 1000
            assert "x-aihub-waited-ms" not in waiting.headers
            by_sdk = pool.submit(told_by_sdk, narrow)
            whole: Future[httpx.Response] = pool.submit(
                posted, narrow, body("second", 8, stream=False)
            )
            assert next(lines) == ""
            later = COMMENT.fullmatch(next(lines))
            assert later is not None
            holding.close()
            rest = [line for line in lines if line]
        comments = [line for line in rest if line.startswith(":")]
        assert all(COMMENT.fullmatch(line) for line in comments)
        assert rest[len(comments)].startswith("data: {")
        assert rest[-1] == "data: [DONE]"
        assert by_sdk.result()
        check_headers(whole.result())


def check_headers(reply: httpx.Response) -> None:
    assert reply.status_code == 200
    waited, load = (int(reply.headers[f"x-aihub-{name}-ms"]) for name in ("waited", "load"))
    assert 1000 < load < waited
    assert int(reply.headers["x-aihub-expected-wait-ms"]) > 1000
    assert int(reply.headers["x-aihub-queue-position"]) in (2, 3)


def test_who_need_not_wait_is_told_so(narrow: Hub) -> None:
    assert posted(narrow, body("second", 1, stream=False)).status_code == 200
    reply = posted(narrow, body("second", 1, stream=False))
    assert reply.headers["x-aihub-queue-position"] == "1"
    assert int(reply.headers["x-aihub-waited-ms"]) < 1000
    assert "x-aihub-load-ms" not in reply.headers
    assert "x-aihub-expected-wait-ms" not in reply.headers
    streamed = posted(narrow, body("second", 2, stream=True))
    assert ": waiting" not in streamed.text
    assert int(streamed.headers["x-aihub-waited-ms"]) < 1000


def test_an_error_behind_a_comment_is_an_event(narrow: Hub) -> None:
    headers = {"Authorization": f"Bearer {narrow.key}"}
    with (
        httpx.Client(base_url=narrow.base_url, headers=headers, timeout=90) as client,
        ThreadPoolExecutor(1) as pool,
        client.stream("POST", PATH, json=body("first", 2800, stream=True)) as holding,
    ):
        held = holding.iter_raw()
        assert next(held)
        with client.stream("POST", PATH, json=body("second", 8, stream=True)) as waiting:
            lines = waiting.iter_lines()
            assert COMMENT.fullmatch(next(lines))
            stopping = pool.submit(narrow.stop)
            rest = [line for line in lines if line and not COMMENT.fullmatch(line)]
        assert len(rest) == 1
        assert json.loads(rest[0].removeprefix("data: "))["error"]["code"] == "shutting_down"
        stopping.result()
