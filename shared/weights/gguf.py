"""The header of a GGUF file: metadata and tensors. The weights themselves are never read."""

from __future__ import annotations

import math
import mmap
import re
import struct
from pathlib import Path
from typing import NamedTuple

from shared.weights.ggml import BLOCKS
from shared.weights.shape import Tensor, WeightsError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
STRING, ARRAY = 8, 9
MOST_ITEMS = 10_000_000
"""More entries in one list than any vocabulary has: the file is broken."""
KEPT_ITEMS = 4096
"""Longer arrays are vocabularies; only their length is kept."""
SPLIT = re.compile(r"^(.*)-(\d{5})-of-(\d{5})\.gguf$")

Value = int | float | bool | str | list["Value"] | None


class Header(NamedTuple):
    """`metadata` holds scalars, strings and short arrays; None stands for a long array."""

    metadata: dict[str, Value]
    lengths: dict[str, int]
    """Number of items of every array."""
    tensors: list[Tensor]
    bytes: int


class Reader:
    """A cursor over a mapped file; raises WeightsError at its end."""

    def __init__(self, data: mmap.mmap, name: str) -> None:
        self._data = data
        self._name = name
        self.at = 0

    def scalar(self, form: str) -> int | float | bool:
        try:
            (value,) = struct.unpack_from(form, self._data, self.at)
        except struct.error:
            raise self.broken("its header is cut short") from None
        self.at += struct.calcsize(form)
        assert isinstance(value, int | float)
        return value

    def count(self, form: str = "<Q") -> int:
        found = int(self.scalar(form))
        if found > MOST_ITEMS:
            raise self.broken(f"its header counts {found} items")
        return found

    def skip(self, size: int) -> None:
        self.at += size
        if self.at > len(self._data):
            raise self.broken("its header is cut short")

    def string(self) -> str:
        size = self.count()
        start = self.at
        self.skip(size)
        return self._data[start : self.at].decode("utf-8", "replace")

    def broken(self, why: str) -> WeightsError:
        return WeightsError(f"{self._name} is not a usable GGUF file: {why}.")


def read(path: Path) -> Header:
    """Read the header of a GGUF file and of the other parts of a split one.

    Takes milliseconds whatever the file's size. Raises WeightsError, and OSError where the file
    cannot be opened.
    """
    first = read_one(path)
    parts = first.metadata.get("split.count")
    if not isinstance(parts, int) or parts < 2:
        return first
    name = SPLIT.match(path.name)
    if name is None:
        raise WeightsError(f"{path.name} is one of {parts} parts, but is not named as one.")
    headers = []
    for number in range(1, parts + 1):
        part = path.with_name(f"{name[1]}-{number:05}-of-{name[3]}.gguf")
        if not part.is_file():
            raise WeightsError(f"{part.name}, a part of the same model, is missing.")
        headers.append(read_one(part))
    tensors = [tensor for header in headers for tensor in header.tensors]
    return headers[0]._replace(tensors=tensors, bytes=sum(header.bytes for header in headers))


def read_one(path: Path) -> Header:
    with path.open("rb") as file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise WeightsError(f"{path.name} is empty.") from None
        with data:
            return parse(Reader(data, path.name), data[:4])


def parse(reader: Reader, magic: bytes) -> Header:
    if magic != MAGIC:
        raise reader.broken("it does not start with GGUF")
    reader.skip(4)
    version = reader.scalar("<I")
    if version not in VERSIONS:
        raise reader.broken(f"it has version {version}, and only versions 2 and 3 are known")
    tensors, pairs = reader.count(), reader.count()
    metadata: dict[str, Value] = {}
    lengths: dict[str, int] = {}
    for _ in range(pairs):
        key = reader.string()
        kind = int(reader.scalar("<I"))
        if kind == ARRAY:
            lengths[key], metadata[key] = array(reader)
        else:
            metadata[key] = value(reader, kind)
    found = [tensor(reader) for _ in range(tensors)]
    return Header(metadata, lengths, found, reader.at)


def value(reader: Reader, kind: int) -> Value:
    if kind == STRING:
        return reader.string()
    form = SCALARS.get(kind)
    if form is None:
        raise reader.broken(f"it holds a value of the unknown type {kind}")
    return reader.scalar(form)


def array(reader: Reader) -> tuple[int, Value]:
    """Number of items, and the items where they are few."""
    kind, size = int(reader.scalar("<I")), reader.count()
    if size <= KEPT_ITEMS and kind != ARRAY:
        return size, [value(reader, kind) for _ in range(size)]
    if kind == STRING:
        for _ in range(size):
            reader.skip(reader.count())
    elif kind in SCALARS:
        reader.skip(size * struct.calcsize(SCALARS[kind]))
    else:
        raise reader.broken("it holds arrays of arrays")
    return size, None


def tensor(reader: Reader) -> Tensor:
    name = reader.string()
    shape = [int(reader.scalar("<Q")) for _ in range(int(reader.count("<I")))]
    kind = int(reader.scalar("<I"))
    reader.skip(8)
    block = BLOCKS.get(kind)
    if block is None:
        raise reader.broken(f"tensor {name} has the unknown type {kind}")
    values = math.prod(shape)
    return Tensor(block.name, values, -(-values // block.values) * block.bytes)
