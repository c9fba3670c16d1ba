"""The real llama.cpp child dies in the middle of a real answer."""

from __future__ import annotations

import time
from collections.abc import Callable

from openai import OpenAI

from tests.hub import Hub, alive

TOKENS = 120
QUESTION = "Tell a long story about a farmer and his dog."


def tell(hub: Hub, after: int = -1, then: Callable[[], object] = lambda: None) -> tuple[str, float]:
    """The answer, and its longest silence; `then` is called behind piece number `after`."""
    with OpenAI(base_url=hub.base_url, api_key=hub.key, max_retries=0) as client:
        stream = client.chat.completions.create(
            model=hub.chat_model,
            messages=[{"role": "user", "content": QUESTION}],
            max_tokens=TOKENS,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        text, silence, pieces, last = "", 0.0, 0, time.monotonic()
        usage = None
        for chunk in stream:
            now = time.monotonic()
            silence, last = max(silence, now - last), now
            usage = chunk.usage or usage
            if chunk.choices and chunk.choices[0].delta.content:
                text += chunk.choices[0].delta.content
                pieces += 1
                if pieces == after:
                    then()
    assert usage is not None
    assert abs(usage.completion_tokens - TOKENS) <= 1
    return text, silence


def test_engine_is_killed(sound: Hub, note: Callable[[str], None]) -> None:
    whole, _ = tell(sound)
    killed = []
    text, silence = tell(sound, TOKENS // 3, lambda: killed.append(sound.kill("engine")))
    assert not alive(killed[0])
    same = next(
        (at for at, pair in enumerate(zip(whole, text, strict=False)) if pair[0] != pair[1]),
        min(len(whole), len(text)),
    )
    # Behind the break the engine reads what it wrote as a prompt, in other tokens and another
    # order of sums, so a near-tie may fall the other way; text before it is never touched.
    assert same >= len(whole) // 3
    assert len(text) > len(whole) * 0.7
    note(f"silence of {silence * 1000:.0f} ms, {same} of {len(whole)} characters as unbroken")


def test_worker_is_killed_with_its_engine(sound: Hub, note: Callable[[str], None]) -> None:
    whole, _ = tell(sound)
    engines = sound.pids("engine")
    text, silence = tell(sound, TOKENS // 3, lambda: sound.kill("worker"))
    assert not any(alive(pid) for pid in engines)
    assert text[: len(whole) // 3] == whole[: len(whole) // 3]
    note(f"silence of {silence * 1000:.0f} ms, engine loaded anew")
