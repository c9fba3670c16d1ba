"""The whole hub with the real vLLM: its load is watched, its adapters come while it serves."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from tests import adapters
from tests.contract.client import Client
from tests.hub import Hub, running_hub
from tests.vllm import place
from worker.engines.vllm_log import PHASES, STARTING

NAMES = ("one", "two", "three")
LOADED = 2
"""Adapters at once, of three."""
LOADS_WITHIN = 300
QUESTION: Any = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with running_hub(settings(tmp_path_factory.mktemp("adapters"))) as running:
        yield running


def settings(folder: Path) -> str:
    paths = {name: adapters.strong(folder / name, seed) for seed, name in enumerate(NAMES, 1)}
    return (
        f'[models.base]\nengine = "vllm"\nweights = "{place.weights()}"\n'
        f'python = "{place.python()}"\ncontext = 1024\nparallel = 4\nthreads = 2\n'
        f"preload = false\nmax_lora_rank = 8\nmax_loras = {LOADED}\nloaded_adapters = {LOADED}\n"
        "[models.base.adapters]\n"
    ) + "".join(f'{name} = "{path}"\n' for name, path in paths.items())


class Desk:
    """An administrator."""

    def __init__(self, hub: Hub) -> None:
        self._client = Client(hub.base_url, hub.key)

    def load(self) -> None:
        order = json.dumps({"model": "base"}).encode()
        reply = self._client.send("POST", "//api/v1/models/load", order)
        assert reply.status == 202, reply.body

    def model(self) -> dict[str, Any]:
        status = self._client.send("GET", "//api/v1/models/status?model=base").json
        [worker] = status["workers"]
        [model] = worker["models"]
        assert isinstance(model, dict)
        return model


def test_a_load_shows_its_phases(hub: Hub) -> None:
    desk, seen = Desk(hub), []
    desk.load()
    deadline = time.monotonic() + LOADS_WITHIN
    while (model := desk.model())["state"] != "ready":
        assert model["state"] in ("absent", "loading"), model
        assert time.monotonic() < deadline, model
        if (progress := model["progress"]) is not None and progress not in seen:
            seen.append(progress)
        time.sleep(0.1)
    known = [name for name, _ in PHASES]
    order = [known.index(progress["phase"]) for progress in seen]
    assert order == sorted(order), seen
    phases = {progress["phase"] for progress in seen}
    # Weights of this size are read between two looks.
    assert phases >= {STARTING, known[-1]}
    assert len(phases) > 2
    size = sum(file.stat().st_size for file in place.weights().glob("*.safetensors"))
    assert {progress["total"] for progress in seen} == {size}
    assert seen[0]["read"] == 0
    assert seen[-1]["read"] == size
    assert model["progress"] is None
    assert 0 < model["bytes"]["measured"] <= model["bytes"]["reserved"]


def test_adapters_come_while_others_are_served(hub: Hub) -> None:
    """Three of them in room for two, with the base in between; the engine stays the same."""
    before = sorted(hub.pids("vllm"))
    assert before
    with openai.OpenAI(base_url=hub.base_url, api_key=hub.key, max_retries=0) as client:
        parents = {model.id: getattr(model, "parent", None) for model in client.models.list()}
        assert parents == {"base": None, **dict.fromkeys(NAMES, "base")}

        def ask(model: str) -> str:
            reply = client.chat.completions.create(
                model=model, messages=QUESTION, temperature=0, max_tokens=10
            )
            assert reply.model == model
            return reply.choices[0].message.content or ""

        said = {name: ask(name) for name in ("base", *NAMES)}
        assert "Paris" in said["base"]
        assert len(set(said.values())) == 4
        with ThreadPoolExecutor(4) as clients:
            mixed = ["base", *NAMES] * 3
            assert list(clients.map(ask, mixed)) == [said[name] for name in mixed]
    desk, deadline = Desk(hub), time.monotonic() + 60
    while sorted((states := desk.model()["adapters"]).values()) != ["ready"] * LOADED:
        assert time.monotonic() < deadline, states
        time.sleep(0.1)
    assert sorted(hub.pids("vllm")) == before
