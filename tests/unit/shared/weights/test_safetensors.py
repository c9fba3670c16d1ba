from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shared.weights import WeightsError, read, read_adapter
from tests.unit.shared.weights.test_config import tiny

INDEX = "model.safetensors.index.json"


def write(path: Path, tensors: dict[str, tuple[str, list[int], int]], hole: int = 0) -> None:
    """A safetensors file whose data is a hole: it may be larger than the disk."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + at + hole)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(tiny(model_type="newthing")))
    return tmp_path


def test_tensor_by_tensor(model: Path) -> None:
    tensors = {
        "a": ("BF16", [1000, 64], 128_000),
        "b": ("F8_E4M3", [64, 64], 4096),
        "c": ("F32", [64], 256),
        "d": ("I32", [], 4),
    }
    write(model / "model.safetensors", tensors)
    write(model / "consolidated.safetensors", tensors)
    weights = read(model)
    assert weights.source == "safetensors"
    assert weights.parameters == 64_000 + 4096 + 64 + 1
    assert weights.bytes == 132_356
    assert [stored.type for stored in weights.stored] == ["BF16", "F8_E4M3", "F32", "I32"]


def test_many_gigabytes_in_shards_take_no_time(model: Path) -> None:
    size = 20 << 30
    for number in (1, 2):
        write(model / f"part-{number}.safetensors", {"w": ("F16", [size // 2], size)})
    names = {"x": "part-1.safetensors", "y": "part-2.safetensors"}
    (model / INDEX).write_text(json.dumps({"weight_map": names}))
    assert read(model).bytes == 2 * size
    (model / "part-2.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"lacks 1 files, part-2"):
        read(model)


def test_an_index_alone(model: Path) -> None:
    stated = {"metadata": {"total_size": 8_000_000}, "weight_map": {"x": "part-1.safetensors"}}
    (model / INDEX).write_text(json.dumps(stated))
    weights = read(model)
    assert (weights.source, weights.bytes, weights.parameters) == ("index", 8_000_000, 4_000_000)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "cut short"),
        (b"\xff" * 16, "cut short"),
        ((10).to_bytes(8, "little") + b"no json at", "not JSON"),
    ],
)
def test_broken_files_are_named(model: Path, raw: bytes, said: str) -> None:
    (model / "model.safetensors").write_bytes(raw)
    with pytest.raises(WeightsError, match=said):
        read(model)


def test_a_header_that_contradicts_itself(model: Path) -> None:
    write(model / "model.safetensors", {"w": ("BF16", [10], 10)})
    with pytest.raises(WeightsError, match="size of w"):
        read(model)


def test_an_index_cannot_point_elsewhere(model: Path) -> None:
    (model / INDEX).write_text(json.dumps({"weight_map": {"x": "../secret.safetensors"}}))
    with pytest.raises(WeightsError, match="elsewhere"):
        read(model)
    (model / INDEX).write_text("[]")
    with pytest.raises(WeightsError, match="cannot be read"):
        read(model)


def test_adapters(tmp_path: Path) -> None:
    write(tmp_path / "adapter_model.safetensors", {"a": ("F32", [8, 64], 2048)})
    assert read_adapter(tmp_path) == 2048
    with pytest.raises(WeightsError, match="adapter"):
        read_adapter(tmp_path / "none")
