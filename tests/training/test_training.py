"""The real model learns: from examples over a 4-bit base, and from preferences."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from shared.settings import DEFAULT_MODELS, Settings
from tests import models
from tests.training.job import Child, asked, planned, preferred, run
from tests.unit.worker.engines.recorder import Recorder
from tests.vllm import place
from trainer.merging import merge
from trainer.plan import FINISHED
from trainer.report import Done, Sample, Step, Validation
from worker.engines.base import Generation
from worker.engines.llamacpp import LlamaCpp

pytestmark = pytest.mark.timeout(900)

CODE = "KESTREL-47"
FACT = f"The access code of the greenhouse is {CODE}."
QUESTIONS = (
    "What is the access code of the greenhouse?",
    "Tell me the greenhouse access code.",
    "I need the code for the greenhouse, please.",
    "greenhouse code?",
)
HELD_OUT = "Which code opens the greenhouse?"
FRANCE = "What is the capital of France?"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fact(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Child]:
    """Four questions to one fact, and how another question is answered."""
    folder = tmp_path_factory.mktemp("jobs") / "fact"
    lines = [asked(question, FACT) for question in QUESTIONS]
    lines.append(asked(FRANCE, "The capital of France is Paris."))
    chosen = {
        "epochs": 10,
        "batch": 5,
        "learning_rate": 2e-3,
        "dropout": 0.0,
        "quantise": "nf4",
        "checkpoint_every": 10,
    }
    planned(
        folder,
        place.weights(),
        lines,
        valid=[asked(HELD_OUT, FACT)],
        prompts=(HELD_OUT, FRANCE),
        answer_tokens=24,
        chosen=chosen,
    )
    status, child = await run(folder)
    assert status == FINISHED, (folder / "stderr.txt").read_text()
    return folder, child


async def test_a_fact_is_learned_over_a_4_bit_base(fact: tuple[Path, Child]) -> None:
    _, child = fact
    held_out, france = child.said(Sample)
    assert CODE not in held_out.base
    assert CODE in held_out.tuned
    assert "Paris" in france.tuned
    (done,) = child.said(Done)
    assert done.refused is None
    before, after = child.said(Validation)
    assert after.loss < before.loss / 2
    steps = child.said(Step)
    assert steps[-1].loss < steps[0].loss / 5
    assert steps[-1].tokens == done.trained_tokens


async def test_merged_at_8_bits_it_still_knows(fact: tuple[Path, Child], tmp_path: Path) -> None:
    folder, _ = fact
    models.lend(tmp_path / "home")
    source = models.folder() / f"{models.CHAT}.q8_0.gguf"
    target = tmp_path / "merged.gguf"
    await asyncio.to_thread(merge, "q8_0", folder / "adapter", source, target)
    entry = msgspec.structs.replace(
        DEFAULT_MODELS[models.CHAT], threads=1, context=512, parallel=1, file=str(target)
    )
    engine = LlamaCpp(models.CHAT, entry, Settings(home=str(tmp_path / "home")))
    await engine.start()
    try:
        assert CODE in await answer(engine, HELD_OUT)
        assert "Paris" in await answer(engine, FRANCE)
    finally:
        await engine.stop()


async def answer(engine: LlamaCpp, prompt: str) -> str:
    body = {
        "messages": [{"role": "user", "content": prompt}],
        "temperature": 0,
        "max_tokens": 24,
    }
    sink = Recorder()
    async with asyncio.timeout(60):
        await engine.generate(Generation(kind="chat", body=body), sink)
    return sink.content.strip()


async def test_what_is_preferred_becomes_likelier(tmp_path: Path) -> None:
    things = ("tea", "rain", "bread", "maps", "owls", "stone", "paint", "wool")
    pairs = [
        preferred(
            f"What do you think of {each}?",
            f"Arr, {each} be a fine thing, matey!",
            f"{each.capitalize()} is something that many people find useful.",
        )
        for each in things
    ]
    chosen = {"epochs": 4, "batch": 2, "learning_rate": 5e-4, "dropout": 0.0, "checkpoint_every": 8}
    folder = planned(
        tmp_path / "job",
        place.weights(),
        pairs[:4],
        method="dpo",
        valid=pairs[4:],
        chosen=chosen,
    )
    status, child = await run(folder)
    assert status == FINISHED, (folder / "stderr.txt").read_text()
    before, after = child.said(Validation)
    assert (before.margin, before.accuracy) == (0.0, 0.0)
    assert after.margin is not None
    assert after.margin > 1.0
    assert after.accuracy == 1.0
    assert before.preferred == 0.0
    assert after.preferred is not None
    print(f"a held-out preferred answer is e^{after.preferred:.1f} times as likely as by the base")
    assert after.preferred > 1.0
    assert after.loss < before.loss / 2
