"""The real vLLM on real weights, through our engine. The order matters: one server serves all."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from shared.errors import (
    ContextLengthExceeded,
    EngineFailed,
    HubError,
    InvalidValue,
    ModelUnavailable,
    UnsupportedValue,
)
from shared.wire.event import Usage
from tests import adapters
from tests.unit.worker.engines.recorder import Recorder
from tests.vllm.conftest import CONTEXT, engine
from worker.engines.base import EngineLost, Generation
from worker.engines.group import members
from worker.engines.vllm import Vllm

pytestmark = pytest.mark.asyncio(loop_scope="session")

TELL = [{"role": "user", "content": "Tell me about the sea."}]
WEATHER = [{"role": "user", "content": "What is the weather in Paris?"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"$ref": "#/$defs/name"}},
                "required": ["city"],
                "additionalProperties": False,
                "$defs": {"name": {"type": "string", "maxLength": 30}},
            },
        },
    },
    {"type": "function", "function": {"name": "stop_all"}},
]
FORM = {
    "type": "json_schema",
    "json_schema": {
        "name": "w",
        "schema": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Rome"]}, "sunny": {"type": "boolean"}},
            "required": ["city", "sunny"],
            "additionalProperties": False,
        },
    },
}


class Watched(Recorder):
    """Tells when the first piece came."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()

    def text(self, text: str) -> None:
        super().text(text)
        self.begun.set()


async def ask(
    vllm: Vllm, *, resume: str = "", adapter: str | None = None, **body: Any
) -> tuple[Recorder, Usage]:
    sink = Recorder()
    body.setdefault("temperature", 0)
    if "prompt" not in body:
        body.setdefault("messages", TELL)
    kind: Any = "completion" if "prompt" in body else "chat"
    generation = Generation(kind=kind, body=body, resume=resume, adapter=adapter)
    async with asyncio.timeout(120):
        usage = await vllm.generate(generation, sink)
    assert len(sink.reasons) == 1
    return sink, usage


async def test_streams_and_counts(vllm: Vllm) -> None:
    sink, usage = await ask(vllm, max_tokens=12)
    assert len(sink.texts) > 6
    assert sink.reasons == ["length"]
    assert usage.completion == 12
    assert usage.prompt > 20
    again, same = await ask(vllm, max_tokens=12)
    assert (again.content, same.prompt) == (sink.content, usage.prompt)
    assert len(vllm.pids()) >= 3
    word = sink.content[6:10]
    stopped, _ = await ask(vllm, max_tokens=12, stop=[word])
    assert stopped.content == sink.content.partition(word)[0]
    assert stopped.reasons == ["stop"]
    bounded, _ = await ask(vllm, max_tokens=CONTEXT * 9, stop=[word])
    assert bounded.content == stopped.content
    none, counted = await ask(vllm, max_tokens=0)
    assert (none.raw, none.reasons, counted) == ("", ["length"], Usage(usage.prompt))


async def test_many_at_once(vllm: Vllm) -> None:
    replies = await asyncio.gather(*(ask(vllm, max_tokens=6) for _ in range(6)))
    assert all(usage.completion == 6 for _, usage in replies)


async def test_cancelled_requests_leave_room(vllm: Vllm) -> None:
    sinks = [Watched() for _ in range(4)]
    long = Generation(kind="chat", body={"messages": TELL, "max_tokens": 900, "ignore_eos": True})
    tasks = [asyncio.create_task(vllm.generate(long, sink)) for sink in sinks]
    async with asyncio.timeout(60):
        await asyncio.gather(*(sink.begun.wait() for sink in sinks))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    # There are four slots, and 900 tokens in each of them take longer than this.
    async with asyncio.timeout(6):
        await ask(vllm, max_tokens=1)
    assert all(not sink.reasons for sink in sinks)


async def test_resumed_text_is_counted_and_not_repeated(vllm: Vllm) -> None:
    whole, usage = await ask(vllm, max_tokens=16)
    at = len("".join(whole.texts[:6]))
    rest, counted = await ask(vllm, max_tokens=16, resume=whole.content[:at])
    assert whole.content[:at] + rest.content == whole.content
    assert (counted.prompt, counted.completion) == (usage.prompt, 16)
    nothing, counted = await ask(vllm, max_tokens=6, resume=whole.content[:at])
    assert (nothing.texts, nothing.reasons) == ([], ["length"])
    assert counted == Usage(usage.prompt, 6)
    text, usage = await ask(vllm, prompt="Once upon a", max_tokens=6, echo=True)
    assert text.content.startswith("Once upon a time")
    rest, counted = await ask(
        vllm, prompt="Once upon a", max_tokens=6, echo=True, resume="Once upon a time"
    )
    assert "Once upon a time" + rest.content == text.content
    assert counted == usage


async def test_structured_output(vllm: Vllm) -> None:
    sink, usage = await ask(vllm, messages=WEATHER, response_format=FORM, max_tokens=100)
    answer = json.loads(sink.content)
    assert set(answer) == {"city", "sunny"}
    assert answer["city"] in ("Paris", "Rome")
    cut = len(sink.content) // 2
    rest, counted = await ask(
        vllm, messages=WEATHER, response_format=FORM, max_tokens=100, resume=sink.content[:cut]
    )
    assert sink.content[:cut] + rest.content == sink.content
    assert counted.completion == usage.completion
    with pytest.raises(EngineFailed, match="another turn"):
        await ask(vllm, messages=WEATHER, response_format=FORM, max_tokens=100, resume='{"x')
    sink, _ = await ask(
        vllm, messages=WEATHER, response_format={"type": "json_object"}, max_tokens=200
    )
    assert sink.content.lstrip().startswith("{")
    if sink.reasons == ["stop"]:
        assert isinstance(json.loads(sink.content), dict)


async def test_forced_tools(vllm: Vllm) -> None:
    named = {"type": "function", "function": {"name": "get_weather"}}
    asked: dict[str, Any] = {"messages": WEATHER, "tools": TOOLS, "max_tokens": 120}
    for choice in ("required", named):
        sink, _ = await ask(vllm, tool_choice=choice, **asked)
        assert (sink.reasons, sink.texts) == (["tool_calls"], [])
        assert sink.fragments[0]["function"] == {"name": "get_weather", "arguments": ""}
        assert set(json.loads(sink.arguments)) == {"city"}
    cut = sink.raw.index("city") + 2
    rest, _ = await ask(vllm, tool_choice=named, resume=sink.raw[:cut], **asked)
    assert all("id" not in fragment for fragment in rest.fragments)
    given = sink.raw[:cut].partition('"arguments":')[2].lstrip()
    assert given + rest.arguments == sink.arguments
    optional, _ = await ask(vllm, messages=WEATHER, tools=TOOLS, max_tokens=4)
    assert len(optional.content) > 4


async def test_logprobs(vllm: Vllm) -> None:
    sink, _ = await ask(vllm, max_tokens=3, logprobs=True, top_logprobs=2)
    tokens = [token for given in sink.logprobs for token in given["content"]]
    assert [len(token["top_logprobs"]) for token in tokens] == [2, 2, 2]
    assert all(set(token) == {"token", "logprob", "bytes", "top_logprobs"} for token in tokens)
    assert "".join(token["token"] for token in tokens) == sink.raw
    sink, _ = await ask(vllm, max_tokens=1, logprobs=True)
    assert sink.logprobs[0]["content"][0]["top_logprobs"] == []
    sink, _ = await ask(vllm, prompt="Once upon", max_tokens=3, logprobs=0)
    assert [given["top_logprobs"] for given in sink.logprobs] == [None, None, None]
    first = len(sink.logprobs[0]["tokens"][0])
    assert [given["text_offset"][0] for given in sink.logprobs][:2] == [0, first]
    rest, _ = await ask(
        vllm, prompt="Once upon", max_tokens=3, logprobs=2, resume=sink.content or sink.raw[:first]
    )
    assert rest.logprobs[0]["text_offset"] == [first]


@pytest.mark.parametrize(
    ("body", "error", "param"),
    [
        (
            {"messages": [{"role": "user", "content": "hi " * 2000}]},
            ContextLengthExceeded,
            "messages",
        ),
        ({"prompt": "hi " * 9000}, ContextLengthExceeded, "prompt"),
        ({"prompt": [5] * 2000}, ContextLengthExceeded, "prompt"),
        ({"prompt": [5, 60000]}, InvalidValue, "prompt"),
        ({"temperature": -1}, InvalidValue, "temperature"),
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
    ],
)
async def test_refusals(vllm: Vllm, body: Any, error: type[HubError], param: str) -> None:
    with pytest.raises(error) as caught:
        await ask(vllm, **body)
    assert caught.value.param == param
    if error is ContextLengthExceeded:
        assert f"length is {CONTEXT} tokens" in caught.value.message
        assert "at least" not in caught.value.message
    assert vllm.alive


def strong(folder: Path, seed: int) -> Path:
    """An adapter that changes what is said from the first words on."""
    return adapters.save(folder, seed, adapters.matrices(seed, strength=0.5))


async def test_adapters_come_and_go(vllm: Vllm, tmp_path: Path) -> None:
    one, two = (str(strong(tmp_path / str(seed), seed)) for seed in (1, 2))
    plain, _ = await ask(vllm, max_tokens=10)
    with pytest.raises(ModelUnavailable):
        await ask(vllm, adapter="mine-1", max_tokens=10)
    long = Generation(kind="chat", body={"messages": TELL, "max_tokens": 60, "temperature": 0})
    running = Watched()
    task = asyncio.create_task(vllm.generate(long, running))
    await running.begun.wait()
    await vllm.load_adapter("mine-1", one)
    await vllm.load_adapter("mine-1", one)
    first, usage = await ask(vllm, adapter="mine-1", max_tokens=10)
    await vllm.load_adapter("mine-2", two)
    second, _ = await ask(vllm, adapter="mine-2", max_tokens=10)
    assert len({plain.content, first.content, second.content}) == 3
    assert usage.prompt > 20
    await task
    assert running.content.startswith(plain.content)
    with pytest.raises(InvalidValue, match="another version"):
        await vllm.load_adapter("mine-1", two)
    await vllm.unload_adapter("mine-1")
    await vllm.unload_adapter("mine-1")
    with pytest.raises(ModelUnavailable):
        await ask(vllm, adapter="mine-1", max_tokens=10)
    again, _ = await ask(vllm, adapter="mine-2", max_tokens=10)
    assert again.content == second.content
    await vllm.load_adapter("mine-1", one)
    back, _ = await ask(vllm, adapter="mine-1", max_tokens=10)
    assert back.content == first.content
    after, _ = await ask(vllm, max_tokens=10)
    assert after.content == plain.content


async def test_adapters_that_do_not_fit(vllm: Vllm, tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="rank is 16, and max_lora_rank of this model is 8"):
        await vllm.load_adapter("high", str(adapters.save(tmp_path / "high", 3, r=16)))
    with pytest.raises(InvalidValue, match=r"adapter_config\.json cannot be read"):
        await vllm.load_adapter("none", str(tmp_path / "none"))
    with pytest.raises(InvalidValue, match="conflicts with a served base model"):
        await vllm.load_adapter("base", str(adapters.save(tmp_path / "base", 4)))
    assert vllm.alive
    await ask(vllm, max_tokens=1)


async def test_no_sleep_on_a_cpu(vllm: Vllm) -> None:
    assert not vllm.can_sleep
    with pytest.raises(UnsupportedValue):
        await vllm.sleep()
    with pytest.raises(UnsupportedValue):
        await vllm.wake()


async def break_a_stream(vllm: Vllm, victim: int) -> str:
    """Kill `victim` in the middle of a stream; returns what had come."""
    group = os.getpgid(victim)
    body = {"messages": TELL, "max_tokens": 60, "temperature": 0}
    sink = Watched()
    task = asyncio.create_task(vllm.generate(Generation(kind="chat", body=body), sink))
    async with asyncio.timeout(30):
        await sink.begun.wait()
        os.kill(victim, signal.SIGKILL)
        with pytest.raises(EngineLost):
            await task
        await vllm.ended()
    with pytest.raises(EngineLost):
        await ask(vllm, max_tokens=1)
    assert not vllm.alive
    assert not sink.reasons
    await vllm.stop()
    assert members(group) == []
    return sink.content


def named(vllm: Vllm, word: bytes) -> int:
    """The one process of vLLM's own that calls itself `word`."""
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in vllm.pids()}
    found = [pid for pid, line in lines.items() if word in line and b"vllm_child" not in line]
    assert len(found) == 1, lines
    return found[0]


def shared_memory() -> set[str]:
    return {path.name for path in Path("/dev/shm").glob("psm_*")}


async def test_the_api_server_dies_and_all_with_it(vllm: Vllm) -> None:
    whole, _ = await ask(vllm, max_tokens=60)
    before = await break_a_stream(vllm, named(vllm, b"vllm.entrypoints"))
    await vllm.start()
    rest, usage = await ask(vllm, max_tokens=60, resume=before)
    assert before + rest.content == whole.content
    assert usage.completion == 60


async def test_the_engine_core_dies_and_all_with_it(vllm: Vllm) -> None:
    await break_a_stream(vllm, named(vllm, b"EngineCore"))


async def test_stop_leaves_nothing(vllm: Vllm, vllm_home: Path) -> None:
    await vllm.start()
    group = os.getpgid(vllm.pids()[0])
    shared = shared_memory()
    assert shared
    await vllm.stop()
    assert vllm.pids() == members(group) == []
    assert not shared & shared_memory()
    assert list((vllm_home / "run").iterdir()) == []
    await vllm.stop()


async def test_why_it_does_not_start(vllm_home: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    broken = engine(vllm_home, weights=str(tmp_path / "empty"))
    with pytest.raises(EngineFailed, match="last words") as caught:
        await broken.start()
    assert "Invalid repository ID or local directory" in caught.value.message
    assert str(tmp_path) not in caught.value.message
    assert not broken.alive
    assert broken.pids() == []
    missing = engine(vllm_home, python=str(tmp_path / "python"))
    with pytest.raises(EngineFailed, match="no interpreter"):
        await missing.start()
    wrong = engine(vllm_home, arguments=("--no-such-flag",))
    with pytest.raises(EngineFailed, match="--no-such-flag"):
        await wrong.start()
