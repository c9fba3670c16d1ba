"""The headers of safetensors files: names, types and shapes. The weights are never read."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec

from shared.weights.shape import Tensor, WeightsError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
LARGEST_HEADER = 100_000_000
"""Bytes; the format's own limit."""
WIDTHS = {
    "F64": 8.0,
    "I64": 8.0,
    "U64": 8.0,
    "F32": 4.0,
    "I32": 4.0,
    "U32": 4.0,
    "F16": 2.0,
    "BF16": 2.0,
    "I16": 2.0,
    "U16": 2.0,
    "F8_E4M3": 1.0,
    "F8_E5M2": 1.0,
    "F8_E8M0": 1.0,
    "I8": 1.0,
    "U8": 1.0,
    "BOOL": 1.0,
    "F4": 0.5,
}
"""Bytes per value."""


class Entry(msgspec.Struct):
    dtype: str = ""
    shape: list[int] = []
    data_offsets: tuple[int, int] = (0, 0)


class Totals(msgspec.Struct):
    total_size: int | float = 0


class Index(msgspec.Struct):
    weight_map: dict[str, str]
    metadata: Totals = msgspec.field(default_factory=Totals)


def read(path: Path) -> list[Tensor]:
    """The tensors of one file; raises WeightsError."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= LARGEST_HEADER or size + 8 > path.stat().st_size:
            raise WeightsError(f"{path.name} is not a safetensors file: its header is cut short.")
        header = file.read(size)
    try:
        raw = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        raw.pop("__metadata__", None)
        entries = {name: msgspec.json.decode(entry, type=Entry) for name, entry in raw.items()}
    except msgspec.DecodeError as error:
        raise WeightsError(f"{path.name} has a header that is not JSON: {error}.") from error
    return [tensor(path.name, name, entry) for name, entry in entries.items()]


def tensor(file: str, name: str, entry: Entry) -> Tensor:
    begin, end = entry.data_offsets
    values = math.prod(entry.shape)
    width = WIDTHS.get(entry.dtype)
    if width is not None and end - begin != math.ceil(values * width):
        raise WeightsError(f"{file} contradicts itself about the size of {name}.")
    return Tensor(entry.dtype, values, end - begin)


def files(folder: Path) -> list[Path]:
    """The files of the model in a folder; [] where an index stands alone or nothing is there.

    Raises WeightsError when some of the files an index names are missing.
    """
    if (folder / INDEX).is_file():
        named = [folder / name for name in sorted(set(index(folder).weight_map.values()))]
        missing = [path.name for path in named if not path.is_file()]
        if missing and len(missing) < len(named):
            raise WeightsError(f"{folder.name} lacks {len(missing)} files, {missing[0]} first.")
        return [] if missing else named
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    # Mistral's own copy of the same weights.
    return sorted(p for p in folder.glob("*.safetensors") if not p.name.startswith("consolidated"))


def index(folder: Path) -> Index:
    try:
        found = msgspec.json.decode((folder / INDEX).read_bytes(), type=Index)
    except msgspec.DecodeError as error:
        raise WeightsError(f"{folder.name}/{INDEX} cannot be read: {error}.") from error
    outside = [name for name in found.weight_map.values() if Path(name).name != name]
    if outside:
        raise WeightsError(f"{folder.name}/{INDEX} names a file elsewhere: {outside[0]}.")
    return found
