from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from shared.load import Load, hub_folder, load_of, weights_path
from shared.settings import DEFAULT_MODELS, Model, Settings
from shared.weights import WeightsError
from tests.unit.shared.weights.test_safetensors import write


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "models").mkdir()
    return Settings(home=str(tmp_path))


def served(**more: Any) -> Model:
    return Model(**({"engine": "vllm", "weights": "base", "python": "py", "lane": "gpu"} | more))


def test_the_embedded_models(settings: Settings) -> None:
    chat, embedding = (load_of(model, settings) for model in DEFAULT_MODELS.values())
    assert chat == Load(engine="llamacpp", device="cpu", context=4096, parallel=4, step=64)
    assert (embedding.context, embedding.embedding) == (512, True)


def test_adapters_of_llamacpp_count_by_their_files(settings: Settings) -> None:
    adapter = settings.folder / "models" / "mine"
    adapter.mkdir()
    write(adapter / "adapter_model.safetensors", {"a": ("F32", [8, 64], 2048)})
    model = Model(engine="llamacpp", file="m.gguf", adapters={"x": "mine", "y": "mine"})
    assert load_of(model, settings).adapters == 4096


def test_vllm_reserves_slots_for_adapters(settings: Settings) -> None:
    assert load_of(served(), settings).lora_slots == 0
    taken = load_of(served(max_lora_rank=64, max_loras=2), settings)
    assert (taken.lora_slots, taken.lora_rank) == (2, 64)
    assert load_of(served(max_lora_rank=64, max_loras=2, lane="cpu"), settings).lora_slots == 3
    assert load_of(served(lane="cpu"), settings).device == "cpu"


@pytest.mark.parametrize(
    ("device", "lane", "kind"),
    [
        ("cuda:0,cuda:1", "cpu", "cuda"),
        ("cpu:0,cpu:1", "cpu", "cpu"),
        ("cpu,cuda:0", "cpu", "cpu"),
        ("cpu", "gpu", "cuda"),
    ],
)
def test_the_device_is_the_one_of_the_lane(
    device: str, lane: str, kind: str, settings: Settings
) -> None:
    settings = replace(settings, device=device)
    assert load_of(served(lane=lane), settings).device == kind


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        ((), "batch", 2048),
        (("--max-num-batched-tokens", "8192"), "batch", 8192),
        (("--max-num-batched-tokens=8k",), "batch", 8000),
        (("--max_num_batched_tokens=8K",), "batch", 8192),
        (("--enforce-eager",), "eager", True),
        (("--kv-cache-dtype=fp8_e4m3",), "cache_bytes", 1),
        (("--kv-cache-dtype", "auto"), "cache_bytes", 2),
    ],
)
def test_arguments_that_change_the_memory(
    arguments: tuple[str, ...], field: str, value: int, settings: Settings
) -> None:
    assert getattr(load_of(served(arguments=arguments), settings), field) == value


def test_a_wrong_argument_is_named(settings: Settings) -> None:
    wrong = served(arguments=("--max-num-batched-tokens=many",))
    with pytest.raises(WeightsError, match="'many' is not a number"):
        load_of(wrong, settings)


def test_where_the_files_are(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    with pytest.raises(WeightsError, match=r"base is missing"):
        weights_path("m", served(), settings)
    (settings.folder / "models" / "base").mkdir()
    assert weights_path("m", served(), settings) == settings.folder / "models" / "base"
    cache = tmp_path / ".cache" / "huggingface" / "hub" / "models--org--name" / "snapshots" / "1a2b"
    assert hub_folder("org/name") is None
    cache.mkdir(parents=True)
    (cache / "config.json").write_text(json.dumps({}))
    assert weights_path("m", served(weights="org/name"), settings) == cache
    for engine in ("openai", "ollama"):
        with pytest.raises(WeightsError, match="runs in an"):
            weights_path("m", Model(engine=engine, url="http://localhost:1"), settings)
