"""A peft folder as the GGUF adapter that llama.cpp loads.

`python -m shared.adapter_gguf FOLDER BASE TARGET` writes TARGET for the base model
BASE (a GGUF file), or ends with status 1 and its reason as the last line of standard error. It is
a process of its own because reading a large vocabulary holds the interpreter for seconds.
"""

from __future__ import annotations

import math
import os
import re
import struct
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from gguf import MODEL_ARCH_NAMES, GGUFReader, GGUFWriter, get_tensor_name_map
from numpy.typing import NDArray

from shared.lifeline import die_with_parent

PERMUTED = frozenset(("llama",))
"""Architectures whose GGUF files hold the rows of queries and keys in another order."""
PLAIN = frozenset(("qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3"))
"""Architectures whose matrices are as Hugging Face has them."""
WEIGHTS = "adapter_model.safetensors"
KEY = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.(?:default\.)?weight")
Matrix = NDArray[np.float32]


class Unfit(Exception):
    """The adapter cannot be used with this base; the message says why."""


class Recipe(msgspec.Struct):
    """adapter_config.json, as far as it changes the weights."""

    r: int
    lora_alpha: float
    peft_type: str = "LORA"
    use_rslora: bool = False
    use_dora: bool = False
    fan_in_fan_out: bool = False
    bias: str = "none"
    modules_to_save: list[str] | None = None
    rank_pattern: dict[str, int] = {}
    alpha_pattern: dict[str, float] = {}

    def check(self) -> None:
        """Raises Unfit for what a GGUF adapter cannot express."""
        refused = {
            f"peft_type {self.peft_type}": self.peft_type != "LORA",
            "use_dora": self.use_dora,
            "fan_in_fan_out": self.fan_in_fan_out,
            f"bias {self.bias!r}": self.bias != "none",
            "modules_to_save": bool(self.modules_to_save),
            "alpha_pattern": bool(self.alpha_pattern),
        }
        wrong = [name for name, is_set in refused.items() if is_set]
        if wrong:
            raise Unfit(f"llama.cpp takes no adapters with {wrong[0]}")

    def factor(self, rank: int) -> float:
        """What llama.cpp's own scale, alpha / rank, must be multiplied with."""
        return math.sqrt(rank) if self.use_rslora else 1.0


class Base:
    """What a base model's GGUF file says of its matrices."""

    def __init__(self, path: Path) -> None:
        reader = GGUFReader(path)
        self.architecture = str(reader.fields["general.architecture"].contents())
        self.shapes = {t.name: tuple(int(n) for n in reversed(t.shape)) for t in reader.tensors}
        """By name, outputs first."""
        if self.architecture not in PERMUTED | PLAIN:
            raise Unfit(
                f"adapters for the architecture {self.architecture} must be given as GGUF files"
            )
        self.heads = self._count(reader, "attention.head_count", 1)
        self.key_heads = self._count(reader, "attention.head_count_kv", self.heads)
        blocks = self._count(reader, "block_count", 0)
        kind = next(arch for arch, name in MODEL_ARCH_NAMES.items() if name == self.architecture)
        self._names = get_tensor_name_map(kind, blocks)

    def _count(self, reader: GGUFReader, key: str, default: int) -> int:
        field = reader.fields.get(f"{self.architecture}.{key}")
        return default if field is None else int(field.contents())

    def name(self, module: str) -> str:
        """The matrix a module of the Hugging Face model is; raises Unfit."""
        name = self._names.get_name(f"{module}.weight", try_suffixes=(".weight",))
        if name is None or name not in self.shapes:
            raise Unfit(f"the base model has no matrix {module}")
        return name

    def ordered(self, name: str, rows: Matrix) -> Matrix:
        """Rows of outputs in the order the base file has them."""
        if self.architecture not in PERMUTED:
            return rows
        if name.endswith("attn_q.weight"):
            return permuted(rows, self.heads)
        if name.endswith("attn_k.weight"):
            return permuted(rows, self.key_heads)
        return rows


def permuted(rows: Matrix, heads: int) -> Matrix:
    """From halves of a rotation one behind the other to pairs side by side, head by head."""
    split = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return split.swapaxes(1, 2).reshape(rows.shape)


def read_safetensors(path: Path) -> dict[str, Matrix]:
    """Every tensor of the file as float32; raises Unfit for other types than floats."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header: dict[str, Any] = msgspec.json.decode(data[8 : 8 + length])
    tensors: dict[str, Matrix] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        tensors[name] = floats(data[begin:end], entry["dtype"]).reshape(entry["shape"])
    return tensors


def floats(data: bytes, kind: str) -> Matrix:
    if kind == "F32":
        return np.frombuffer(data, "<f4")
    if kind == "F16":
        return np.frombuffer(data, "<f2").astype(np.float32)
    if kind == "BF16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    raise Unfit(f"tensors of type {kind} are not known")


def pairs(tensors: dict[str, Matrix]) -> dict[str, tuple[Matrix, Matrix]]:
    """Both matrices of every adapted module; raises Unfit when something else is in the file."""
    found: dict[str, dict[str, Matrix]] = {}
    for key, matrix in tensors.items():
        match = KEY.fullmatch(key)
        if match is None:
            raise Unfit(f"{WEIGHTS} holds {key}, which is no matrix of a LoRA")
        found.setdefault(match[1], {})[match[2]] = matrix
    for module, both in found.items():
        if set(both) != {"A", "B"} or both["A"].shape[0] != both["B"].shape[1]:
            raise Unfit(f"the two matrices of {module} do not belong together")
    if not found:
        raise Unfit(f"{WEIGHTS} is empty")
    return {module: (both["A"], both["B"]) for module, both in found.items()}


def convert(folder: Path, base_file: Path, target: Path) -> None:
    """Write `target`; raises Unfit, OSError and msgspec.MsgspecError."""
    recipe = msgspec.json.decode((folder / "adapter_config.json").read_bytes(), type=Recipe)
    recipe.check()
    base = Base(base_file)
    writer = GGUFWriter(target, base.architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", recipe.lora_alpha)
    for module, (a, b) in sorted(pairs(read_safetensors(folder / WEIGHTS)).items()):
        name = base.name(module)
        if base.shapes[name] != (b.shape[0], a.shape[1]):
            raise Unfit(
                f"{module} is {b.shape[0]} x {a.shape[1]} in the adapter, but"
                f" {' x '.join(map(str, base.shapes[name]))} in the base model"
            )
        b = base.ordered(name, b) * np.float32(recipe.factor(a.shape[0]))
        writer.add_tensor(f"{name}.lora_a", np.ascontiguousarray(a))
        writer.add_tensor(f"{name}.lora_b", np.ascontiguousarray(b))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main(argv: list[str]) -> None:
    die_with_parent(os.getppid())
    folder, base, target = (Path(name) for name in argv[1:])
    part = target.with_suffix(".part")
    try:
        convert(folder, base, part)
        part.replace(target)
    except FileNotFoundError as error:
        raise SystemExit(f"{Path(str(error.filename)).name} is missing") from error
    except (Unfit, msgspec.MsgspecError) as error:
        raise SystemExit(str(error)) from error
    finally:
        part.unlink(missing_ok=True)


if __name__ == "__main__":
    main(sys.argv)
