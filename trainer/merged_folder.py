"""A base's Hugging Face folder with an adapter's changes in it, in the types it is published in."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.adapter_gguf import Unfit, floats
from trainer.delta import Delta, Matrix

KEPT = (".json", ".jinja", ".txt", ".model")
"""Endings of the files that come along: settings, tokenizer, template."""
FLOATS = frozenset(("F32", "F16", "BF16"))


def merge(adapter: Path, base: Path, target: Path) -> None:
    """Tensor by tensor, one in memory at a time. Raises Unfit, OSError, MsgspecError."""
    delta = Delta(adapter)
    files = sorted(base.glob("*.safetensors"))
    left = set(delta.modules)
    target.mkdir(parents=True)
    for path in files:
        left -= shard(path, target / path.name, delta)
    if left:
        raise Unfit(f"the base model has no matrix {min(left)}")
    for path in base.iterdir():
        if path.suffix in KEPT and path.is_file():
            shutil.copyfile(path, target / path.name)


def shard(source: Path, target: Path, delta: Delta) -> set[str]:
    """Copies one file; the modules of the adapter that were in it."""
    with source.open("rb") as file, target.open("wb") as out:
        (length,) = struct.unpack("<Q", file.read(8))
        head = file.read(length)
        out.write(struct.pack("<Q", length) + head)
        header: dict[str, Any] = msgspec.json.decode(head)
        header.pop("__metadata__", None)
        found = set()
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            begin, end = entry["data_offsets"]
            data = file.read(end - begin)
            module = name.removesuffix(".weight")
            if module in delta.modules and name != module:
                if entry["dtype"] not in FLOATS:
                    raise Unfit(f"the base's {name} is quantised ({entry['dtype']})")
                found.add(module)
                data = changed(data, entry, delta.of(module), name)
            out.write(data)
    return found


def changed(data: bytes, entry: dict[str, Any], added: Matrix, name: str) -> bytes:
    values = floats(data, entry["dtype"]).reshape(entry["shape"])
    if values.shape != added.shape:
        raise Unfit(f"the adapter's {name} is {added.shape}, the base's {values.shape}")
    return packed(values + added, entry["dtype"])


def packed(values: Matrix, kind: str) -> bytes:
    if kind == "F32":
        return values.astype("<f4").tobytes()
    if kind == "F16":
        return values.astype("<f2").tobytes()
    return bfloat16(values).tobytes()


def bfloat16(values: Matrix) -> NDArray[np.uint16]:
    """To the nearest, to the even one of two."""
    bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype("<u2")
