"""The size of a model, read from the headers of its files: no weights are read, nothing is loaded.

`read` takes a GGUF file, a Hugging Face folder, or a config.json alone.
"""

from __future__ import annotations

from pathlib import Path

from shared.weights import architecture, config, gguf, gguf_shape, safetensors
from shared.weights.shape import Layer, Shape, Stored, Weights, WeightsError, by_type

__all__ = ["Layer", "Shape", "Stored", "Weights", "WeightsError", "read", "read_adapter"]

TYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def read(path: Path) -> Weights:
    """Raises WeightsError, which says what is missing or not understood."""
    try:
        if path.is_dir():
            return folder(path)
        if path.name.endswith(".json"):
            return folder(path.parent)
        return file(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}.") from error


def read_adapter(path: Path) -> int:
    """Bytes of a LoRA adapter: a GGUF file, or a folder with an adapter_model.safetensors."""
    try:
        if path.is_dir():
            return sum(t.bytes for t in safetensors.read(path / "adapter_model.safetensors"))
        return sum(tensor.bytes for tensor in gguf.read(path).tensors)
    except OSError as error:
        raise WeightsError(f"The adapter {path} cannot be read: {error.strerror}.") from error


def file(path: Path) -> Weights:
    header = gguf.read(path)
    shape, notes = gguf_shape.shape(header)
    return Weights(
        source="gguf",
        shape=shape,
        stored=by_type(header.tensors),
        header=header.bytes,
        notes=notes,
    )


def folder(path: Path) -> Weights:
    if not (path / "config.json").is_file():
        raise WeightsError(f"{path} has no config.json: it is not the folder of a model.")
    settings = config.read(path / "config.json")
    shape, notes = config.shape(settings)
    if files := safetensors.files(path):
        tensors = [tensor for name in files for tensor in safetensors.read(name)]
        stored = by_type(tensors)
        return Weights(source="safetensors", shape=shape, stored=stored, notes=notes)
    stated = safetensors.index(path) if (path / safetensors.INDEX).is_file() else None
    if stated is not None and stated.metadata.total_size > 0:
        return indexed(stated, settings, shape, notes)
    return counted(settings, shape, notes)


def indexed(
    index: safetensors.Index, settings: config.Config, shape: Shape, notes: tuple[str, ...]
) -> Weights:
    size = int(index.metadata.total_size)
    type, more = stored_type(settings)
    if settings.quantization_config is not None:
        type, more = "quantised", ()
    values = 0 if type == "quantised" else int(size / safetensors.WIDTHS[type])
    stored = (Stored(type, len(index.weight_map), values, size),)
    return Weights(source="index", shape=shape, stored=stored, notes=(*notes, *more))


def counted(settings: config.Config, shape: Shape, notes: tuple[str, ...]) -> Weights:
    values = architecture.parameters(settings)
    if settings.quantization_config is not None:
        method = settings.quantization_config.get("quant_method", "unknown")
        raise WeightsError(
            f"The weights are quantised ({method}), which config.json alone does not size:"
            " the safetensors files or their index are needed."
        )
    type, more = stored_type(settings)
    stored = (Stored(type, 0, values, int(values * safetensors.WIDTHS[type])),)
    return Weights(source="config", shape=shape, stored=stored, notes=(*notes, *more))


def stored_type(settings: config.Config) -> tuple[str, tuple[str, ...]]:
    if settings.type is None:
        return "F32", ("config.json names no type of the weights: 32 bits each were counted.",)
    known = TYPES.get(settings.type.removeprefix("torch."))
    if known is None:
        raise WeightsError(f"Weights of the type {settings.type} are not understood.")
    return known, ()
