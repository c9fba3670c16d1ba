from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from shared.weights import Layer, WeightsError, gguf, read, read_adapter

U32, F32, BOOL, STRING, ARRAY, U64 = 4, 6, 7, 8, 9, 10
Pair = tuple[str, int, Any]


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def encode(kind: int, value: Any) -> bytes:
    if kind == STRING:
        return text(value)
    if kind == ARRAY:
        inner, items = value
        head = struct.pack("<IQ", inner, len(items))
        return head + b"".join(encode(inner, item) for item in items)
    return struct.pack(gguf.SCALARS[kind], value)


def header(pairs: list[Pair], tensors: list[tuple[str, list[int], int]]) -> bytes:
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs))
    for key, kind, value in pairs:
        out += text(key) + struct.pack("<I", kind) + encode(kind, value)
    for name, shape, kind in tensors:
        out += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, 0)
    return out


def model(architecture: str = "llama", **more: tuple[int, Any]) -> list[Pair]:
    """A model of 6 layers, 4 heads and 2 shared ones of 16 values; `__` in a key is a dot."""
    sizes = {
        "block_count": (U32, 6),
        "embedding_length": (U32, 64),
        "feed_forward_length": (U32, 128),
        "context_length": (U32, 4096),
        "attention__head_count": (U32, 4),
        "attention__head_count_kv": (U32, 2),
    } | more
    keys = [(f"{architecture}.{k.replace('__', '.')}", *v) for k, v in sizes.items()]
    words = ("tokenizer.ggml.tokens", ARRAY, (STRING, [f"w{n}" for n in range(5000)]))
    return [("general.architecture", STRING, architecture), *keys, words]


def write(path: Path, pairs: list[Pair], size: int = 0) -> Path:
    raw = header(pairs, [("a", [64, 5000], 8), ("b", [64], 0), ("c", [256, 4], 12)])
    with path.open("wb") as file:
        file.write(raw)
        file.truncate(len(raw) + size)
    return path


def test_many_gigabytes_are_read_by_their_header(tmp_path: Path) -> None:
    weights = read(write(tmp_path / "m.gguf", model(), 40 << 30))
    stored = {one.type: (one.values, one.bytes) for one in weights.stored}
    assert stored == {"Q8_0": (320_000, 340_000), "F32": (64, 256), "Q4_K": (1024, 576)}
    assert weights.shape.vocabulary == 5000
    assert weights.shape.layers == (Layer(64),) * 6
    assert weights.shape.query == 64
    assert 50_000 < weights.header < 100_000


def test_widths_and_heads_by_layer(tmp_path: Path) -> None:
    pairs = model(
        "gemma3",
        attention__key_length=(U32, 32),
        attention__value_length=(U32, 16),
        attention__sliding_window=(U32, 512),
        attention__head_count_kv=(ARRAY, (U32, [1, 2, 1, 2, 1, 4])),
    )
    layers = read(write(tmp_path / "m.gguf", pairs)).shape.layers
    assert [layer.values for layer in layers] == [48, 96, 48, 96, 48, 192]
    assert [layer.window for layer in layers] == [512] * 5 + [None]


@pytest.mark.parametrize(
    ("architecture", "more", "windows", "noted"),
    [
        ("gemma2", {}, [512, None] * 3, False),
        ("llama", {}, [None] * 6, False),
        ("newthing", {}, [None] * 6, True),
        (
            "newthing",
            {"attention__sliding_window_pattern": (ARRAY, (BOOL, [True, False, False] * 2))},
            [512, None, None] * 2,
            False,
        ),
    ],
)
def test_windows(
    architecture: str,
    more: dict[str, tuple[int, Any]],
    windows: list[int | None],
    noted: bool,
    tmp_path: Path,
) -> None:
    pairs = model(architecture, attention__sliding_window=(U32, 512), **more)
    weights = read(write(tmp_path / "m.gguf", pairs))
    assert [layer.window for layer in weights.shape.layers] == windows
    assert bool(weights.notes) is noted


def test_an_encoder_keeps_no_cache(tmp_path: Path) -> None:
    shape = read(write(tmp_path / "m.gguf", model("bert"))).shape
    assert shape.layers == (Layer(0),) * 6
    assert not shape.gated


def test_a_model_in_parts(tmp_path: Path) -> None:
    pairs = [*model(), ("split.count", U32, 2)]
    first = write(tmp_path / "m-00001-of-00002.gguf", pairs)
    with pytest.raises(WeightsError, match=r"m-00002-of-00002\.gguf"):
        read(first)
    write(tmp_path / "m-00002-of-00002.gguf", [("split.count", U32, 2)])
    assert read(first).bytes == 2 * (340_000 + 256 + 576)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "empty"),
        (b"PK\3\4 a zip file", "does not start with GGUF"),
        (b"GGUF\1\0\0\0", "version 1"),
        (header(model(), [])[:3000], "cut short"),
        (b"GGUF\3\0\0\0" + b"\xff" * 16, "counts"),
        (header([("x", U32, 1)], []), "does not name its architecture"),
        (header(model(), [("t", [32], 999)]), "unknown type 999"),
        (header([("x", ARRAY, (ARRAY, []))], []), "arrays of arrays"),
        (header([*model("mamba"), ("mamba.ssm.state_size", U32, 16)], []), r"mamba\.ssm"),
        (header([("general.architecture", STRING, "llama")], []), r"lacks llama\.block_count"),
    ],
)
def test_what_is_not_understood_is_refused(raw: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(raw)
    with pytest.raises(WeightsError, match=said):
        read(path)


def test_an_adapter_in_gguf(tmp_path: Path) -> None:
    assert read_adapter(write(tmp_path / "lora.gguf", [])) == 340_000 + 256 + 576
