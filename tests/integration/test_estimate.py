"""The formula against real llama.cpp children on real weights, by what the kernel says of them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy.main import main
from shared.estimate import PROMPT_CACHE, Estimate, estimate
from shared.load import load_of, weights_path
from shared.settings import DEFAULT_MODELS, Settings
from shared.weights import read
from tests import models
from tests.unit.worker.engines.recorder import Recorder
from worker.engines.base import Generation
from worker.engines.llamacpp import LlamaCpp
from worker.engines.registry import build

WITHIN = 0.05


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("home")
    models.lend(home)
    return Settings(home=str(home), models=DEFAULT_MODELS)


def prepared(
    name: str, context: int, parallel: int, settings: Settings
) -> tuple[LlamaCpp, Estimate]:
    model = msgspec.structs.replace(
        DEFAULT_MODELS[name], context=context, parallel=parallel, threads=1
    )
    engine = build(name, model, settings)
    assert isinstance(engine, LlamaCpp)
    return engine, estimate(read(weights_path(name, model, settings)), load_of(model, settings))


def resident(engine: LlamaCpp) -> int:
    """RSS in bytes: PSS would depend on how many other processes share the same libraries."""
    (pid,) = engine.pids()
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Rss:"))


def close(measured: int, expected: int) -> None:
    assert measured == pytest.approx(expected, rel=WITHIN), measured / expected


async def say(engine: LlamaCpp, text: str) -> None:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": text}], "max_tokens": 4}
    async with asyncio.timeout(60):
        await engine.generate(Generation(kind="chat", body=body), Recorder())


@pytest.mark.parametrize(("context", "parallel"), [(512, 1), (2048, 4), (8192, 1)])
async def test_chat(context: int, parallel: int, settings: Settings) -> None:
    engine, expected = prepared(models.CHAT, context, parallel, settings)
    await engine.start()
    try:
        close(resident(engine), expected.total - expected.filling)
        await say(engine, "word " * min(context - 80, 600))
        used = resident(engine)
    finally:
        await engine.stop()
    # One prompt leaves nothing in the cache of prompts that left their slot.
    close(used, expected.total - expected.prompt_cache)
    assert used <= expected.total


async def test_chat_with_a_full_prompt_cache(settings: Settings) -> None:
    engine, expected = prepared(models.CHAT, 1024, 1, settings)
    await engine.start()
    try:
        for word in ("cat", "dog", "sun", "sea"):
            await say(engine, f"{word} " * 900)
        full = resident(engine)
    finally:
        await engine.stop()
    assert expected.prompt_cache == PROMPT_CACHE
    assert expected.total * (1 - WITHIN) <= full <= expected.total


@pytest.mark.parametrize(("context", "parallel"), [(512, 1), (512, 4), (256, 4)])
async def test_embedding(context: int, parallel: int, settings: Settings) -> None:
    engine, expected = prepared(models.EMBEDDING, context, parallel, settings)
    await engine.start()
    try:
        loaded = resident(engine)
        await engine.embed(["word " * (context - 12)] * 4, None)
        used = resident(engine)
    finally:
        await engine.stop()
    close(loaded, expected.total - expected.filling)
    close(used, expected.total)
    assert used <= expected.total


def command(settings: Settings, monkeypatch: pytest.MonkeyPatch, *argv: str) -> int:
    monkeypatch.setenv("AIHUB_HOME", settings.home)
    monkeypatch.chdir(settings.folder)
    return main(["models", "estimate", *argv])


def test_the_command_prints_the_breakdown(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(settings, monkeypatch, "smollm2", "--device", "16GiB") == 0
    said = capsys.readouterr().out
    for part in ("134.5 million", "Q8_0 136.3 MiB", "kv cache", "360.0 MiB", "fits 16.00 GiB"):
        assert part in said
    assert "up to 8192 tokens, all that the model knows" in said


def test_the_command_says_what_fits(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ("smollm2", "--context", "8192", "--parallel", "2", "--device", "512MiB", "--json")
    assert command(settings, monkeypatch, *argv) == 3
    report = json.loads(capsys.readouterr().out)
    assert report["total"] > 512 << 20
    assert report["estimate"]["kv_cache"] == 23040 * 8192 * 2
    assert report["fit"]["spare"] == (512 << 20) - report["total"]
    assert report["fit"]["largest_parallel"] == 1
    assert 2048 < report["fit"]["largest_context"] < 8192


def test_the_command_takes_files(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    file = str(settings.folder / "models" / "all-minilm-l6-v2.f16.gguf")
    assert command(settings, monkeypatch, file) == 0
    assert "512 tokens each" in capsys.readouterr().out
    sizes = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32}
    heads = {"num_attention_heads": 32, "num_key_value_heads": 8}
    rest = {"model_type": "llama", "vocab_size": 128256, "max_position_embeddings": 131072}
    config = sizes | heads | rest | {"torch_dtype": "bfloat16", "tie_word_embeddings": False}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert command(settings, monkeypatch, str(tmp_path)) == 0
    said = capsys.readouterr().out
    assert "8.03 billion" in said
    assert "fits a card of 24 GiB" in said
    assert command(settings, monkeypatch, str(tmp_path), "--device", "16GiB") == 3
    assert "does not fit 16.00 GiB" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("nothing",), "'nothing' is neither a model of the settings"),
        (("smollm2", "--device", "much"), "'much' is not a size"),
        (("smollm2", "--context", "0"), "--context must be at least 1"),
        (("smollm2", "--engine", "vllm"), "not GGUF files"),
    ],
)
def test_the_command_says_what_is_wrong(
    argv: tuple[str, ...],
    said: str,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command(settings, monkeypatch, *argv) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err
    assert shown.err.count("\n") == 1
