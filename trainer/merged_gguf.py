"""A base's GGUF file with an adapter's changes in it, in 8 or 16 bits.

Never in 4: rounding to so few values undoes what was learned.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType
from gguf.quants import dequantize, quantize

from shared.adapter_gguf import Base, Unfit
from trainer.delta import Delta, Matrix

Kind = Literal["q8_0", "f16"]
TYPES: dict[str, tuple[GGMLQuantizationType, LlamaFileType]] = {
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
}
BLOCK = 32
"""Values of a row that Q8_0 takes at once."""
OWN = ("general.architecture", "general.file_type", "general.quantization_version")


def merge(adapter: Path, base: Path, target: Path, kind: Kind) -> None:
    """Tensor by tensor, one in memory at a time. Raises Unfit, OSError, MsgspecError."""
    delta, known, reader = Delta(adapter), Base(base), GGUFReader(base)
    if (parts := reader.fields.get("split.count")) is not None and int(parts.contents()) > 1:
        raise Unfit("the base is a GGUF model in several files")
    changed = {known.name(module): module for module in delta.modules}
    writer = GGUFWriter(target, known.architecture)
    copy_fields(reader, writer)
    wide, file_type = TYPES[kind]
    writer.add_file_type(file_type)
    if kind == "q8_0":
        writer.add_quantization_version(2)
    plans = [(tensor, type_of(tensor, wide)) for tensor in reader.tensors]
    for tensor, asked in plans:
        shape = [int(size) for size in reversed(tensor.shape)]
        count = int(np.prod(shape)) * width(asked)
        writer.add_tensor_info(
            tensor.name, shape, np.dtype(np.float32), int(count), raw_dtype=asked
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor, asked in plans:
        module = changed.get(tensor.name)
        if module is None and tensor.tensor_type == asked:
            writer.write_tensor_data(tensor.data)
            continue
        values: Matrix = dequantize(tensor.data, tensor.tensor_type)
        if module is not None:
            values = values + added(delta.of(module), known, tensor.name, values)
        writer.write_tensor_data(quantize(values, asked))
    writer.close()


def added(found: Matrix, known: Base, name: str, values: Matrix) -> Matrix:
    if found.shape != values.shape:
        raise Unfit(f"the adapter's {name} is {found.shape}, the base's {values.shape}")
    return known.ordered(name, found)


def type_of(tensor: Any, wide: GGMLQuantizationType) -> GGMLQuantizationType:
    """Vectors stay exact; a row that Q8_0 cannot divide takes 16 bits."""
    if len(tensor.shape) < 2 or 1 in tensor.shape[:2]:
        return GGMLQuantizationType.F32
    if wide == GGMLQuantizationType.Q8_0 and int(tensor.shape[0]) % BLOCK:
        return GGMLQuantizationType.F16
    return wide


def width(kind: GGMLQuantizationType) -> float:
    """Bytes of one value."""
    widths = {
        GGMLQuantizationType.F32: 4.0,
        GGMLQuantizationType.F16: 2.0,
        GGMLQuantizationType.Q8_0: 34 / BLOCK,
    }
    return widths[kind]


def copy_fields(reader: GGUFReader, writer: GGUFWriter) -> None:
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in OWN:
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)
