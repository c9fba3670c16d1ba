"""Sleep and the card's memory, which a vLLM on a CPU does not have: our engine and a double."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest

from shared.errors import EngineFailed
from shared.settings import Model, Settings
from tests.bench import gpu_check
from tests.fakes import vllm_server
from tests.fakes.nvml.card import FakeNvml
from tests.fakes.training_child import PEAK, STEPS
from tests.hub import command_line
from tests.trainers import stand_in
from tests.unit.shared.weights.configs import MODELS
from tests.unit.worker.engines.recorder import Recorder
from worker.engines.base import EngineLost, Generation, Reservation
from worker.engines.registry import build
from worker.engines.vllm import Vllm

GIB = 1 << 30
CARD = "NVIDIA Fake 16"
NO_DRIVER = 9
"""NVML's code for it."""
PUBLISHED = "Qwen2.5-0.5B"
ASKED = Generation(kind="chat", body={"messages": [{"role": "user", "content": "hi"}]})
ROOT = Path(__file__).parents[2]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A published model's shape, and how many bytes the double takes for it."""
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**MODELS[PUBLISHED][0], "bytes": GIB}))
    return folder


@pytest.fixture
async def vllm(home: Path, weights: Path) -> AsyncIterator[Vllm]:
    model = Model(engine="vllm", weights=str(weights), python=vllm_server.install(home))
    given = Reservation(device="GPU-0", total=16 * GIB, granted=4 * GIB, kv=GIB)
    made = Vllm("m", model, Settings(home=str(home)), given)
    await made.start()
    yield made
    await made.stop()


async def test_nothing_is_sent_to_a_sleeper(vllm: Vllm) -> None:
    assert vllm.can_sleep
    await vllm.generate(ASKED, Recorder())
    await vllm.sleep()
    await vllm.sleep()
    assert not vllm.alive
    assert vllm.pids()
    with pytest.raises(EngineLost, match="sleeps"):
        await vllm.generate(ASKED, Recorder())
    await vllm.wake()
    await vllm.wake()
    assert vllm.alive
    sink = Recorder()
    usage = await vllm.generate(ASKED, sink)
    assert (sink.texts, sink.reasons, usage.completion) == (["one"], ["stop"], 1)


async def test_a_start_gets_what_was_granted_last(vllm: Vllm) -> None:
    assert share(vllm) == "0.2500"
    vllm.grant(6 * GIB)
    assert share(vllm) == "0.2500"
    await vllm.stop()
    await vllm.start()
    assert share(vllm) == "0.3750"
    vllm.grant(GIB // 2)
    await vllm.stop()
    await vllm.start()
    assert float(share(vllm)) >= 1 / 16, "no less than its cache of keys and values"


def share(vllm: Vllm) -> str:
    """Of its card, as its command line says."""
    words = [command_line(pid).split() for pid in vllm.pids()]
    flag = "--gpu-memory-utilization"
    return next(said[said.index(flag) + 1] for said in words if flag in said)


async def test_a_sleeper_that_dies_is_noticed(vllm: Vllm) -> None:
    await vllm.sleep()
    os.kill(vllm.pids()[-1], 9)
    async with asyncio.timeout(30):
        await vllm.ended()
    with pytest.raises(EngineFailed, match="not running"):
        await vllm.wake()
    await vllm.stop()
    assert vllm.pids() == []


def check(nvml: FakeNvml, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.bench.gpu_check", *arguments],
        env=os.environ | nvml.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_check_of_a_card(nvml: FakeNvml, weights: Path, tmp_path: Path) -> None:
    python = vllm_server.install(tmp_path)
    done = check(nvml, "--python", python, "--weights", str(weights), "--context", "1024")
    assert done.returncode == 0, done.stderr
    assert "NVIDIA Fake 16" in done.stdout
    assert f"vLLM {vllm_server.VERSION}" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("| a:weights")]
    assert len(rows) == 2
    assert "| b:weights" in done.stdout
    assert f"{vllm_server.CONTEXT >> 20:,}" in rows[0]


def test_the_check_of_a_card_trains_and_serves(
    nvml: FakeNvml, weights: Path, tmp_path: Path
) -> None:
    (tmp_path / "trainer").mkdir()
    flags = ("--python", vllm_server.install(tmp_path), "--context", "1024")
    trainer = ("--train", str(weights), "--train-python", str(stand_in(tmp_path / "trainer", 0.02)))
    done = check(nvml, *flags, "--weights", str(weights), *trainer)
    assert done.returncode == 0, done.stderr
    _, _, told = done.stdout.partition(f"QLoRA, batch 4 x 1024 tokens, on {CARD}")
    (row,) = [line.split() for line in told.splitlines() if line.startswith("| weights")]
    cells = [cell for cell in row if cell != "|"]
    assert cells[2] == str(PEAK >> 20), "what NVML showed of the child"
    assert cells[5] == str(10 * STEPS // 2), "tokens a second"


def test_why_a_card_cannot_be_checked(nvml: FakeNvml, weights: Path) -> None:
    without = check(nvml, "--python", sys.executable, "--weights", str(weights))
    assert without.returncode == gpu_check.NO_VLLM
    nvml.fail("nvmlInitWithFlags", NO_DRIVER)
    missing = check(nvml, "--python", sys.executable)
    assert missing.returncode == gpu_check.NO_CARD
    assert "no NVIDIA card" in missing.stdout


@pytest.mark.parametrize("engine", ["vllm", "transformers"])
async def test_a_model_whose_files_lack_fails_when_it_is_loaded_and_not_before(
    engine: Literal["vllm", "transformers"], tmp_path: Path
) -> None:
    model = Model(engine=engine, weights=str(tmp_path / "nowhere"), python=sys.executable)
    built = build("m", model, Settings(home=str(tmp_path)), None)
    with pytest.raises(EngineFailed, match="files of m cannot be read"):
        await built.start()
    assert not built.alive
