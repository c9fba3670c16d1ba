"""The real vLLM on real weights, through our engine. The order matters: one server serves all."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from shared.errors import (
    ContextLengthExceeded,
    EngineFailed,
    HubError,
    InvalidValue,
    UnsupportedValue,
)
from tests import adapters
from tests.asking import FORM, WEATHER, Watched, ask, generation
from tests.engine_claims import Adapts, Answers, Counts, GoesOn
from tests.vllm.conftest import engine
from tests.vllm.made import CONTEXT
from worker.engines.base import EngineLost
from worker.engines.group import members
from worker.engines.vllm import Vllm

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def base(vllm: Vllm) -> Vllm:
    return vllm


class TestAnswers(Answers):
    pass


class TestCounts(Counts):
    pass


class TestGoesOn(GoesOn):
    pass


async def test_what_did_not_come_from_it_is_no_form_to_go_on_with(vllm: Vllm) -> None:
    with pytest.raises(EngineFailed, match="another turn"):
        await ask(vllm, messages=WEATHER, response_format=FORM, max_tokens=100, resume='{"x')


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


class TestAdapts(Adapts):
    pass


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
    sink = Watched()
    task = asyncio.create_task(vllm.generate(generation(max_tokens=60), sink))
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


def shared_memory(pids: list[int]) -> set[Path]:
    """The segments that these processes have mapped: others may have some, too."""
    maps = "\n".join(Path(f"/proc/{pid}/maps").read_text() for pid in pids)
    return {Path("/dev/shm") / name for name in re.findall(r"/dev/shm/(psm_\w+)", maps)}


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
    shared = shared_memory(vllm.pids())
    assert shared
    await vllm.stop()
    assert vllm.pids() == members(group) == []
    assert not [path for path in shared if path.exists()]
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
