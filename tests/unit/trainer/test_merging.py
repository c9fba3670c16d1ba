"""An adapter merged into its base is the base plus what the adapter adds, in 8 or 16 bits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from shared.adapter_gguf import Unfit, floats, permuted
from tests import adapters
from tests.layer import HEADS, SHAPES, Arrays, a_base, a_delta, expected, gguf_file
from trainer.merged_folder import bfloat16
from trainer.merging import merge


@pytest.fixture(scope="module")
def base() -> Arrays:
    return a_base()


@pytest.fixture(scope="module")
def deltas() -> Arrays:
    return a_delta()


@pytest.fixture
def adapter(tmp_path: Path, deltas: Arrays) -> Path:
    return adapters.save(tmp_path / "adapter", tensors=deltas, r=4, lora_alpha=12)


@pytest.mark.parametrize(("kind", "off"), [("f16", 2e-3), ("q8_0", 1e-2)])
@pytest.mark.parametrize("stored", [GGMLQuantizationType.F32, GGMLQuantizationType.Q8_0])
def test_gguf(
    tmp_path: Path,
    base: Arrays,
    deltas: Arrays,
    adapter: Path,
    kind: str,
    off: float,
    stored: GGMLQuantizationType,
) -> None:
    source = gguf_file(tmp_path / "base.gguf", base, stored)
    merge(kind, adapter, source, tmp_path / "merged.gguf")
    reader = GGUFReader(tmp_path / "merged.gguf")
    told = {name: field.contents() for name, field in reader.fields.items()}
    assert told["tokenizer.ggml.tokens"] == ["a", "b", "ç"]
    assert told["tokenizer.chat_template"] == "{{ messages }}"
    assert told["llama.attention.head_count"] == HEADS
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    for module, (name, shape, heads) in SHAPES.items():
        tensor = tensors[f"blk.0.{name}.weight"]
        assert tensor.tensor_type == GGMLQuantizationType[kind.upper()]
        wanted = expected(base, deltas, f"model.layers.0.{module}.weight")
        rows = permuted(wanted, heads) if heads else wanted
        found = dequantize(tensor.data, tensor.tensor_type)
        assert found.shape == shape
        assert np.abs(found - rows).max() < 2 * off * np.abs(rows).max(), module
    norm = tensors["output_norm.weight"]
    assert np.array_equal(norm.data, base["model.norm.weight"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "adapter",
        "base.gguf",
        "merged.gguf",
    ]


@pytest.mark.parametrize("kind", ["q4_0", "q4_k_m", "nf4"])
def test_never_to_4_bits(tmp_path: Path, base: Arrays, adapter: Path, kind: str) -> None:
    source = gguf_file(tmp_path / "base.gguf", base, GGMLQuantizationType.F32)
    with pytest.raises(Unfit, match="nothing is merged to 4 bits"):
        merge(kind, adapter, source, tmp_path / "merged.gguf")


def test_folder(tmp_path: Path, base: Arrays, deltas: Arrays, adapter: Path) -> None:
    source = tmp_path / "base"
    source.mkdir()
    names = sorted(base)
    save_file({name: base[name] for name in names[:3]}, source / "model-00001-of-00002.safetensors")
    save_file({name: base[name] for name in names[3:]}, source / "model-00002-of-00002.safetensors")
    (source / "config.json").write_text(json.dumps({"model_type": "llama"}))
    merge("safetensors", adapter, source, tmp_path / "merged")
    found = {}
    for path in sorted((tmp_path / "merged").glob("*.safetensors")):
        found |= load_file(path)
    assert sorted(found) == names
    for name in names:
        assert np.allclose(found[name], expected(base, deltas, name), atol=1e-5), name
    assert json.loads((tmp_path / "merged" / "config.json").read_text()) == {"model_type": "llama"}


def test_a_base_that_lacks_a_matrix(tmp_path: Path, base: Arrays, adapter: Path) -> None:
    source = tmp_path / "base"
    source.mkdir()
    lacking = {name: values for name, values in base.items() if "up_proj" not in name}
    save_file(lacking, source / "model.safetensors")
    with pytest.raises(Unfit, match=r"no matrix model\.layers\.0\.mlp\.up_proj"):
        merge("safetensors", adapter, source, tmp_path / "merged")
    assert not list(tmp_path.glob("merged*"))


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_bfloat16_is_the_nearest(numbers: list[float]) -> None:
    values = np.array(numbers, np.float32)
    values = values[np.abs(values) < 1e38]
    bits = bfloat16(values).astype(np.uint16)
    found = floats(bits.tobytes(), "BF16").astype(np.float64)
    for step in (-1, 1):
        other = (bits.astype(np.int32) + step).clip(0, 0xFFFF).astype(np.uint16)
        neighbour = floats(other.tobytes(), "BF16").astype(np.float64)
        with np.errstate(invalid="ignore"):
            worse = np.abs(neighbour - values) < np.abs(found - values)
        assert not worse.any()
