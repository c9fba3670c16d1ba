"""The conversion of adapters, tensor by tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shared.adapter_gguf import Unfit, convert, floats, permuted
from tests import adapters

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.down_proj": "ffn_down",
}
HEADS = {"self_attn.q_proj": adapters.HEADS, "self_attn.k_proj": adapters.KEY_HEADS}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file with the embedded model's matrices, whose values play no part."""
    return model(tmp_path_factory.mktemp("base") / "base.gguf", "llama")


def model(path: Path, architecture: str) -> Path:
    writer = GGUFWriter(path, architecture)
    writer.add_block_count(30)
    writer.add_head_count(adapters.HEADS)
    writer.add_head_count_kv(adapters.KEY_HEADS)
    for layer in adapters.LAYERS:
        for module, shape in adapters.MODULES.items():
            name = f"blk.{layer}.{NAMES[module]}.weight"
            writer.add_tensor(name, np.zeros(shape, np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def unpermuted(rows: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """Pairs side by side back to halves, row by row."""
    size = rows.shape[0] // heads
    order = [
        head * size + 2 * (at % (size // 2)) + at // (size // 2)
        for head in range(heads)
        for at in range(size)
    ]
    return rows[order]


@pytest.mark.parametrize("rslora", [False, True])
def test_every_product_is_pefts(base: Path, tmp_path: Path, rslora: bool) -> None:
    tensors = adapters.matrices(5)
    for module in ("self_attn.q_proj", "mlp.down_proj"):
        for side, shape in (("A", (8, None)), ("B", (None, 8))):
            name = f"base_model.model.model.layers.7.{module}.lora_{side}.weight"
            width = next(n for n in tensors[name].shape if n != 4)
            tensors[name] = np.resize(tensors[name], [n or width for n in shape])
    folder = adapters.save(tmp_path / "a", tensors=tensors, use_rslora=rslora, lora_alpha=12)
    target = tmp_path / "a.gguf"
    convert(folder, base, target)
    reader = GGUFReader(target)
    assert reader.fields["general.type"].contents() == "adapter"
    assert reader.fields["general.architecture"].contents() == "llama"
    assert reader.fields["adapter.type"].contents() == "lora"
    alpha = reader.fields["adapter.lora.alpha"].contents()
    written = {tensor.name: tensor.data for tensor in reader.tensors}
    assert len(written) == len(tensors)
    for layer in adapters.LAYERS:
        for module in adapters.MODULES:
            key = f"base_model.model.model.layers.{layer}.{module}"
            a, b = tensors[f"{key}.lora_A.weight"], tensors[f"{key}.lora_B.weight"]
            rank = a.shape[0]
            expected = (b @ a) * 12 / (np.sqrt(rank) if rslora else rank)
            name = f"blk.{layer}.{NAMES[module]}.weight"
            rows = written[f"{name}.lora_b"]
            if module in HEADS:
                rows = unpermuted(rows, HEADS[module])
            product = (rows @ written[f"{name}.lora_a"]) * alpha / rank
            assert np.allclose(product, expected, atol=1e-6), key


def test_other_architectures(tmp_path: Path) -> None:
    tensors = adapters.matrices(6)
    folder = adapters.save(tmp_path / "a", tensors=tensors)
    convert(folder, model(tmp_path / "qwen.gguf", "qwen2"), tmp_path / "a.gguf")
    written = {tensor.name: tensor.data for tensor in GGUFReader(tmp_path / "a.gguf").tensors}
    key = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
    assert np.array_equal(written["blk.0.attn_q.weight.lora_b"], tensors[key])
    with pytest.raises(Unfit, match="architecture falcon"):
        convert(folder, model(tmp_path / "falcon.gguf", "falcon"), tmp_path / "b.gguf")


def test_what_cannot_be_used(base: Path, tmp_path: Path) -> None:
    tensors = adapters.matrices(3)
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    a = tensors[f"{name}.lora_A.weight"]
    narrow = tensors | {f"{name}.lora_A.weight": a[:, :64].copy()}
    lone = {key: value for key, value in tensors.items() if key != f"{name}.lora_A.weight"}
    other = {key.replace("q_proj", "qkv"): value for key, value in tensors.items()}
    refused: dict[str, dict[str, Any]] = {
        "q_proj is 576 x 64 in the adapter, but 576 x 576 in the base": {"tensors": narrow},
        "no matrix model.layers.0.self_attn.qkv": {"tensors": other},
        "lm_head.bias, which is no matrix of a LoRA": {"tensors": tensors | {"lm_head.bias": a}},
        "two matrices of model.layers.0.self_attn.q_proj do not": {"tensors": lone},
        "is empty": {"tensors": {}},
        "use_dora": {"use_dora": True},
        "fan_in_fan_out": {"fan_in_fan_out": True},
        "bias 'all'": {"bias": "all"},
        "modules_to_save": {"modules_to_save": ["lm_head"]},
        "alpha_pattern": {"alpha_pattern": {"q_proj": 4}},
        "peft_type IA3": {"peft_type": "IA3"},
    }
    for number, (why, changes) in enumerate(refused.items()):
        folder = adapters.save(tmp_path / str(number), **changes)
        with pytest.raises(Unfit, match=why):
            convert(folder, base, tmp_path / "never.gguf")


@settings(deadline=None, max_examples=30)
@given(
    rows=arrays(np.float32, (3 * 8,), elements=st.floats(-4, 4, width=32)),
    position=st.integers(0, 1000),
)
def test_permuted_rows_turn_alike(rows: np.ndarray[Any, Any], position: int) -> None:
    """Halves turned as Hugging Face does equal pairs turned as llama.cpp does."""
    heads, size = 3, 8
    angles = position * 10000.0 ** (-np.arange(size // 2) * 2 / size)
    cos, sin = np.cos(angles), np.sin(angles)
    split = rows.reshape(heads, 2, size // 2).astype(np.float64)
    first, second = split[:, 0], split[:, 1]
    halves = np.stack([first * cos - second * sin, second * cos + first * sin], axis=1)
    pairs = permuted(rows, heads).reshape(heads, size // 2, 2).astype(np.float64)
    even, odd = pairs[..., 0], pairs[..., 1]
    turned = np.stack([even * cos - odd * sin, odd * cos + even * sin], axis=-1)
    assert np.allclose(permuted(halves.reshape(-1), heads), turned.reshape(-1))


def test_types_of_floats() -> None:
    values = np.array([1.5, -0.25, 3.0], np.float32)
    assert np.array_equal(floats(values.tobytes(), "F32"), values)
    assert np.array_equal(floats(values.astype(np.float16).tobytes(), "F16"), values)
    brain = (values.view(np.uint32) >> 16).astype(np.uint16)
    assert np.array_equal(floats(brain.tobytes(), "BF16"), values)
    with pytest.raises(Unfit, match="I8"):
        floats(b"\0", "I8")
