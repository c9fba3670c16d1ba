"""The embedded engine on real weights, in its real child process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared.errors import (
    ContextLengthExceeded,
    EngineFailed,
    HubError,
    InvalidValue,
    UnsupportedParameter,
)
from shared.wire.event import Usage
from tests import models
from tests.asking import TOOLS, Watched, ask, generation
from tests.engine_claims import Answers, Counts, GoesOn
from tests.integration.llamacpp import engine
from worker.engines.base import EngineLost
from worker.engines.llamacpp import LlamaCpp

CONTEXT = 1024


@pytest.fixture
async def chat(lent: Path) -> AsyncIterator[LlamaCpp]:
    made = engine(lent, models.CHAT, context=CONTEXT)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def base(chat: LlamaCpp) -> LlamaCpp:
    return chat


class TestAnswers(Answers):
    pass


class TestCounts(Counts):
    pass


class TestGoesOn(GoesOn):
    pass


async def test_what_was_read_is_kept(chat: LlamaCpp) -> None:
    await ask(chat, max_tokens=1)
    _, counted = await ask(chat, max_tokens=1)
    assert counted.cached > 0


async def test_sampling_parameters_have_effect(chat: LlamaCpp) -> None:
    greedy, _ = await ask(chat, max_tokens=16)
    hot = {"temperature": 1.8, "max_tokens": 16}
    one, _ = await ask(chat, seed=7, **hot)
    same, _ = await ask(chat, seed=7, **hot)
    other, _ = await ask(chat, seed=8, **hot)
    assert one.content == same.content != other.content
    sink, _ = await ask(chat, prompt="Once upon a", max_tokens=1, logprobs=1)
    likely = sink.logprobs[0]["tokens"][0]
    chosen, _ = await ask(chat, max_tokens=1, logit_bias={"42": 100})
    by_id, _ = await ask(chat, prompt="Once", max_tokens=1, logit_bias={"42": 100})
    assert chosen.content == by_id.content != greedy.texts[0]
    assert likely.strip() == "time"
    loop = [{"role": "user", "content": "Say ha ha ha ha ha ha ha ha ha ha ha ha"}]
    plain, _ = await ask(chat, messages=loop, max_tokens=24)
    varied, _ = await ask(chat, messages=loop, max_tokens=24, frequency_penalty=2.0)
    assert plain.content != varied.content


async def test_held_back_and_let_go(chat: LlamaCpp) -> None:
    class Holding(Watched):
        def text(self, text: str) -> None:
            super().text(text)
            assert self.source is not None
            self.source.pause_reading()
            asyncio.get_running_loop().call_soon(self.source.resume_reading)

    sink, usage = await ask(chat, Holding(), max_tokens=10)
    assert usage.completion == 10
    assert sink.reasons == ["length"]


async def test_a_schema_that_contains_itself(chat: LlamaCpp) -> None:
    inner = {"anyOf": [{"$ref": "#"}, {"type": "null"}]}
    schema = {
        "type": "object",
        "properties": {"next": inner},
        "required": ["next"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "list", "schema": schema}}
    sink, _ = await ask(chat, response_format=form, max_tokens=40)
    assert "".join(sink.content.split()).startswith('{"next":{"next":')


async def test_what_nobody_can_mean_costs_nothing(chat: LlamaCpp) -> None:
    most = 2**31 - 1
    for name in ("repeat_last_n", "dry_penalty_last_n", "n_probs", "top_k", "seed", "unknown"):
        _, usage = await ask(chat, max_tokens=3, **{name: most})
        assert usage.completion == 3
    _, usage = await ask(chat, prompt="Once", max_tokens=2**63, stop=["."], seed=2**62)
    assert usage.completion < CONTEXT


async def test_optional_tools_are_ignored_by_a_model_without_them(chat: LlamaCpp) -> None:
    sink, usage = await ask(chat, tools=TOOLS, max_tokens=4)
    plain, same = await ask(chat, max_tokens=4)
    assert sink.content == plain.content
    assert usage.prompt == same.prompt


async def test_completions(chat: LlamaCpp) -> None:
    sink, usage = await ask(chat, prompt="Once upon a", max_tokens=3, echo=True)
    assert sink.content.startswith("Once upon a time")
    assert usage == Usage(3, 3)
    resumed, counted = await ask(
        chat, prompt="Once upon a", max_tokens=3, echo=True, resume="Once upon a time"
    )
    assert sink.content.startswith("Once upon a time" + resumed.content)
    assert (counted.prompt, counted.completion) == (3, 3)
    ids, usage = await ask(chat, prompt=[6403, 2238, 253], max_tokens=2)
    assert usage.prompt == 3
    at = len(ids.texts[0])
    resumed, counted = await ask(
        chat, prompt=[6403, 2238, 253], max_tokens=2, resume=ids.content[:at]
    )
    assert ids.content[:at] + resumed.content == ids.content
    assert counted.prompt == 3
    none, usage = await ask(chat, prompt="Once upon a", max_tokens=0, echo=True)
    assert (none.content, usage) == ("Once upon a", Usage(3, 0))


async def test_continues_after_its_child_was_killed(chat: LlamaCpp) -> None:
    whole, _ = await ask(chat, max_tokens=60)
    sink = Watched()
    task = asyncio.create_task(chat.generate(generation(max_tokens=60), sink))
    async with asyncio.timeout(30):
        await sink.begun.wait()
        os.kill(chat.pid, signal.SIGKILL)
        with pytest.raises(EngineLost):
            await task
        await chat.ended()
        assert not chat.alive
        with pytest.raises(EngineLost):
            await ask(chat, max_tokens=60)
        assert not sink.reasons
        await chat.start()
        await chat.generate(generation(max_tokens=60, resume=sink.content), sink)
    assert sink.content == whole.content
    assert sink.reasons == whole.reasons


@pytest.mark.parametrize(
    ("body", "error", "param"),
    [
        (
            {"messages": [{"role": "user", "content": "hi " * 2000}]},
            ContextLengthExceeded,
            "messages",
        ),
        ({"prompt": "hi " * 2000}, ContextLengthExceeded, "prompt"),
        ({"prompt": [5, 49152]}, InvalidValue, "prompt"),
        ({"prompt": "x", "suffix": "y"}, UnsupportedParameter, "suffix"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "x"}}}},
            InvalidValue,
            "response_format",
        ),
        (
            {
                "tools": [
                    {"type": "function", "function": {"name": "f", "parameters": {"type": "x"}}}
                ],
                "tool_choice": "required",
            },
            InvalidValue,
            "tools",
        ),
        ({"grammar": "root ::= ((("}, UnsupportedParameter, "grammar"),
        ({"reasoning_format": "loud"}, InvalidValue, "reasoning_format"),
        ({"repeat_penalty": 0}, InvalidValue, "repeat_penalty"),
    ],
)
async def test_refusals(chat: LlamaCpp, body: Any, error: type[HubError], param: str) -> None:
    with pytest.raises(error) as caught:
        await ask(chat, **body)
    assert caught.value.param == param
    assert "models/" not in caught.value.message
    if error is ContextLengthExceeded:
        assert str(CONTEXT) in caught.value.message


async def test_a_broken_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    missing = engine(tmp_path, models.CHAT)
    with pytest.raises(EngineFailed, match=r"lacks its file smollm2-135m-instruct\.q8_0\.gguf"):
        await missing.start()
    file = tmp_path / "models" / "smollm2-135m-instruct.q8_0.gguf"
    file.write_bytes(b"{}")
    with pytest.raises(EngineFailed, match="is not a GGUF file"):
        await missing.start()
    file.write_bytes(b"GGUF but not really")
    with pytest.raises(EngineFailed, match="file is damaged or no model") as caught:
        await missing.start()
    assert "File" not in caught.value.message
    assert str(tmp_path) not in caught.value.message
    assert not missing.alive
    assert list((tmp_path / "run").iterdir()) == []


async def test_the_child_follows_its_parent(lent: Path) -> None:
    """kill -9 of the process that started the engine ends the engine."""
    script = (
        "import asyncio, sys\n"
        "from tests import models\n"
        "from tests.integration.llamacpp import engine\n"
        "from pathlib import Path\n"
        "async def main():\n"
        f"    made = engine(Path({str(lent)!r}), models.EMBEDDING)\n"
        "    await made.start()\n"
        "    print(made.pid, flush=True)\n"
        "    await asyncio.sleep(99)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    async with asyncio.timeout(60):
        said = [await parent.stdout.readline() for _ in range(2)]
        child = int(said[1])
        descriptor = os.pidfd_open(child)
        parent.kill()
        await parent.wait()
        over = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(descriptor, over.set)
        await over.wait()
    loop.remove_reader(descriptor)
    os.close(descriptor)
    assert len(list((lent / "run").glob("llama-*"))) == 1
    later = engine(lent, models.EMBEDDING)
    await later.start()
    await later.stop()
    assert list((lent / "run").glob("llama-*")) == []
