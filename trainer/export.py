"""One tuned model as what its owner takes away: its adapter, or its base with it merged in."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from shared.weights import WeightsError
from shared.weights.gguf import read as read_gguf
from shared.wire.export import ExportClaim, ExportSource
from shared.wire.openai.fine_tuning import Fields, JobError
from trainer import launch, tape
from trainer.merged_folder import KEPT
from trainer.process import answer
from trainer.shelf import FILES, GGUF

WITHIN = 6 * 3600.0
"""Seconds for one merge."""
SPARE = 1 << 30
"""Bytes of the disk that a merge leaves alone."""
SETTINGS, BASE_NAME = FILES[0], "base_model_name_or_path"

Check = Callable[[int], Awaitable[None]]


class RefusedError(Exception):
    """It cannot be made; the message is for its owner."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.told = JobError(code, message)


class Product(NamedTuple):
    """What becomes a file of the project."""

    filename: str
    size: int
    pieces: AsyncIterator[bytes]


class Inner(msgspec.Struct):
    base: str
    base_gguf: str | None = None


class Kept(msgspec.Struct):
    """Of a job's plan: what it was trained on."""

    plan: Inner


async def produce(
    home: Path, scratch: Path, claim: ExportClaim, source: ExportSource, check: Check
) -> Product:
    """Merged models are written into `scratch` first; `check` is told how many bytes will come.

    Raises RefusedError, OSError, and what `check` raises.
    """
    adapter = (home / source.path.removesuffix(f"/{GGUF}")).resolve()
    name = plain(claim.model)
    if claim.format == "adapter":
        return of_entries(f"{name}.tar", await asyncio.to_thread(entries, adapter, name))
    try:
        known = msgspec.convert(source.plan, Kept).plan
    except msgspec.ValidationError:
        raise RefusedError("model_unfit", "It is not known what it was trained on.") from None
    kind = claim.quantisation or "safetensors"
    base = Path(known.base if claim.format == "safetensors" else known.base_gguf or "")
    expected = await asyncio.to_thread(expect, base, kind)
    await check(expected)
    if shutil.disk_usage(home).free < 2 * expected + SPARE:
        raise RefusedError("server_error", "There is not enough room on the hub's disk.")
    target = scratch / name
    await asyncio.to_thread(scratch.mkdir, parents=True)
    try:
        await answer(launch.merge(kind, adapter, base, target), b"", WITHIN)
    except TimeoutError:
        raise RefusedError("server_error", "It took too long to merge it.") from None
    except OSError as error:
        raise RefusedError("model_unfit", f"It cannot be merged: {error}") from error
    if claim.format == "safetensors":
        made = await asyncio.to_thread(tape.of_folder, target, name)
        return of_entries(f"{name}.safetensors.tar", made)
    length = target.stat().st_size
    return Product(f"{name}.{kind}.gguf", length, tape.content(target, length))


def of_entries(filename: str, made: list[tape.Entry]) -> Product:
    return Product(filename, tape.size(made), tape.pieces(made))


def entries(adapter: Path, name: str) -> list[tape.Entry]:
    """An adapter's files; its settings say which base it has, not where that lies here."""
    found = []
    for one in tape.of_folder(adapter, name):
        if Path(one.name).name not in (*FILES, GGUF):
            continue
        if one.source == adapter / SETTINGS:
            settings: Fields = msgspec.json.decode((adapter / SETTINGS).read_bytes())
            if (base := settings.get(BASE_NAME)) is not None:
                settings[BASE_NAME] = Path(str(base)).name
            told = msgspec.json.format(msgspec.json.encode(settings))
            one = tape.Entry(one.name, len(told), told)
        found.append(one)
    return found


def expect(base: Path, kind: str) -> int:
    """Bytes of the merged model, near enough; raises RefusedError where there is no base."""
    if kind == "safetensors":
        paths = list(base.iterdir()) if base.is_dir() else []
        kept = [path for path in paths if path.suffix in (".safetensors", *KEPT)]
        if any(path.suffix == ".safetensors" for path in kept):
            return sum(path.stat().st_size for path in kept)
    elif base.is_file():
        try:
            header = read_gguf(base)
        except WeightsError as error:
            raise RefusedError("model_unfit", str(error)) from error
        values = sum(tensor.values for tensor in header.tensors)
        return header.bytes + values * (34 if kind == "q8_0" else 64) // 32
    raise RefusedError("model_unfit", "The base that it was trained on is not there any more.")


def plain(model: str) -> str:
    """A model's name as one of a file."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", model).strip("-.")[:200] or "model"
