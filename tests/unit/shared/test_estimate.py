from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared.estimate import CHECKPOINTS, MIB, PROMPT_CACHE, Estimate, estimate
from shared.fit import fit
from shared.load import Load
from shared.size import parse_size, spell_size
from shared.weights import Layer, Shape, Stored, Weights, read
from tests.unit.shared.weights.configs import MODELS
from worker.engines import llamacpp_child, llamacpp_server

GIB = 1 << 30


def published(name: str, folder: Path) -> Weights:
    (folder / "config.json").write_text(json.dumps(MODELS[name][0]))
    return read(folder)


def gguf(layers: tuple[Layer, ...] = (Layer(384),) * 30, **changes: Any) -> Weights:
    """SmolLM2-135M in Q8_0."""
    widths = {
        "architecture": "llama",
        "layers": layers,
        "hidden": 576,
        "feed_forward": 1536,
        "gated": True,
        "query": 576,
        "vocabulary": 49152,
        "context": 8192,
    }
    shape = Shape(**(widths | changes))
    stored = (Stored("Q8_0", 272, 134_515_008, 143_025_408),)
    return Weights(source="gguf", shape=shape, stored=stored, header=1_785_664)


def on_cpu(context: int, parallel: int, **more: Any) -> Load:
    values = {"engine": "llamacpp", "device": "cpu", "context": context, "parallel": parallel}
    return Load(**(values | more))


def on_card(**more: Any) -> Load:
    values = {"engine": "vllm", "device": "cuda", "context": 8192, "parallel": 8}
    return Load(**(values | more))


@pytest.mark.parametrize(
    ("context", "parallel", "cache", "activations"),
    [
        (512, 1, 11.25, 15.14),
        (1000, 1, 22.5, 15.64),
        (1000, 4, 90, 15.64),
        (4096, 1, 90, 18.64),
        (8192, 1, 180, 22.64),
        (512, 8, 90, 15.14),
    ],
)
def test_llamacpp_as_its_own_log_says(
    context: int, parallel: int, cache: float, activations: float
) -> None:
    """The MiB that llama.cpp prints for its KV and compute buffers with SmolLM2-135M."""
    found = estimate(gguf(), on_cpu(context, parallel))
    assert found.kv_cache == cache * MIB
    assert found.activations == pytest.approx(activations * MIB, rel=0.01)


@pytest.mark.parametrize(
    ("window", "every", "context", "parallel", "cache", "activations"),
    [
        (512, 6, 8192, 1, 26, 20.03),
        (512, 6, 2048, 4, 56, 14.03),
        (1024, 2, 8192, 1, 57, 20.53),
    ],
)
def test_sliding_windows_as_llamacpp_says(
    window: int, every: int, context: int, parallel: int, cache: int, activations: float
) -> None:
    """The same for models of 12 layers made with gemma2's and gemma3's pattern."""
    layers = tuple(Layer(512, None if (at + 1) % every == 0 else window) for at in range(12))
    weights = gguf(layers, hidden=512, feed_forward=1024, query=512, vocabulary=32000)
    found = estimate(weights, on_cpu(context, parallel))
    assert found.kv_cache == cache * MIB
    assert found.activations == pytest.approx(activations * MIB, rel=0.01)
    copies = CHECKPOINTS * parallel * 2 * window * 512 * (12 - 12 // every)
    assert found.prompt_cache == PROMPT_CACHE + copies


def test_the_child_is_started_as_the_formula_says() -> None:
    assert llamacpp_child.CHECKPOINTS == CHECKPOINTS
    assert llamacpp_server.PROMPT_CACHE * MIB == PROMPT_CACHE


def test_terms_add_up() -> None:
    found = estimate(gguf(), on_cpu(4096, 4, adapters=1000))
    assert sum(found.terms.values()) == found.total
    assert set(found.terms) == {
        name for name in Estimate.__struct_fields__ if isinstance(getattr(found, name), int)
    } - {"context", "parallel", "filling"}
    assert found.adapters == 1000
    assert 0 < found.filling < found.total


def test_an_encoder_has_logits_for_every_token() -> None:
    layers = (Layer(0),) * 6
    encoder = gguf(layers, hidden=384, query=384, gated=False, vocabulary=30522)
    found = estimate(encoder, on_cpu(512, 4, embedding=True))
    assert found.kv_cache == found.prompt_cache == 0
    assert found.logits == 512 * (30522 + 384) * 4
    assert found.activations == pytest.approx(7.27 * MIB, rel=0.02)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("engine", ["vllm", "transformers"])
def test_weights_and_cache_on_a_card(name: str, engine: str, tmp_path: Path) -> None:
    weights = published(name, tmp_path)
    found = estimate(weights, on_card(engine=engine, context=2048))
    assert found.weights == 2 * weights.parameters
    whole = MODELS[name][2] * 2048 * 8
    assert found.kv_cache == whole or any(layer.window for layer in weights.shape.layers)
    assert found.kv_cache <= whole * 1.4
    rest = found.total - found.weights - found.kv_cache - found.margin
    assert GIB // 2 < rest < 4 * GIB
    assert found.notes


def test_a_window_bounds_the_cache_of_vllm_only(tmp_path: Path) -> None:
    weights = published("gemma-3-1b-it", tmp_path)
    slots = estimate(weights, on_card(engine="transformers", context=32768, parallel=1))
    assert slots.kv_cache == 1024 * 26 * 32768
    paged = estimate(weights, on_card(context=32768, parallel=1))
    assert paged.kv_cache == 1024 * (22 * (2560 + 16) + 4 * 32768)


def test_an_encoder_keeps_no_cache_in_transformers(tmp_path: Path) -> None:
    weights = published("gemma-3-1b-it", tmp_path)
    load = on_card(engine="transformers", context=512, parallel=4)
    encoder = estimate(weights, msgspec.structs.replace(load, embedding=True))
    assert encoder.kv_cache == 0
    assert encoder.activations > estimate(weights, load).activations


def test_compressed_heads_are_whole_in_transformers() -> None:
    weights = gguf((Layer(576, None, 5120),) * 10)
    kept = {
        engine: estimate(weights, on_card(engine=engine, parallel=1)).kv_cache
        for engine in ("vllm", "transformers")
    }
    assert kept["vllm"] == 2 * 10 * 576 * 8192
    assert kept["transformers"] == 2 * 10 * 5120 * 8192


def test_what_vllm_is_told_counts(tmp_path: Path) -> None:
    weights = published("Llama-3.1-8B", tmp_path)
    plain = estimate(weights, on_card())
    assert estimate(weights, on_card(cache_bytes=1)).kv_cache == plain.kv_cache // 2
    assert estimate(weights, on_card(eager=True)).runtime == plain.runtime - 32 * 16 * MIB
    assert estimate(weights, on_card(batch=8192)).activations == 4 * plain.activations
    assert estimate(weights, on_card(split=2)).weights == plain.weights // 2
    assert estimate(weights, on_card(dtype="float32")).weights == 2 * plain.weights
    lora = estimate(weights, on_card(lora_slots=4, lora_rank=16)).adapters
    assert lora == 4 * 2 * 41_943_040


def test_known_cards(tmp_path: Path) -> None:
    weights = published("Llama-3.1-8B", tmp_path)
    load = on_card(parallel=4, context=4096)
    assert not fit(weights, load, 16 * GIB).fits
    assert fit(weights, load, 24 * GIB).fits
    small = fit(published("Llama-3.2-3B", tmp_path), load, 16 * GIB)
    assert small.fits
    assert small.spare > 4 * GIB


@pytest.mark.parametrize("device", [GIB // 4, GIB // 2, 2 * GIB])
def test_the_largest_that_fits_is_the_largest(device: int) -> None:
    weights, load = gguf(), on_cpu(2048, 2)

    def total(**changes: int) -> int:
        return estimate(weights, msgspec.structs.replace(load, **changes)).total

    found = fit(weights, load, device)
    assert found.fits == (total() <= device)
    assert found.spare == device - total()
    if found.largest_context is None:
        assert total(context=256) > device
    else:
        assert total(context=found.largest_context) <= device
        more = found.largest_context + 256
        assert more > 8192 or total(context=more) > device
    if found.largest_parallel is None:
        assert total(parallel=1) > device
    else:
        assert total(parallel=found.largest_parallel) <= device
        assert total(parallel=found.largest_parallel + 1) > device


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("16GiB", 16 * GIB),
        ("24 GB", 24 * 10**9),
        ("1.5gib", GIB * 3 // 2),
        ("512M", 512 * 10**6),
        ("512Mi", 512 * MIB),
        ("100", 100),
        ("1TiB", 1 << 40),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "16 Gigs", "-1GiB", "1iB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


def test_spelling() -> None:
    assert spell_size(3 * GIB // 2) == "1.50 GiB"
    assert spell_size(MIB // 2) == "0.5 MiB"
