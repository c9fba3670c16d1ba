"""Adapters on disk in the form llama.cpp loads, converted once."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from pathlib import Path

import worker
from shared.errors import EngineFailed, InvalidValue
from worker.engines.refusal import clean
from worker.process import spawn

TIMEOUT = 300.0
FILES = ("adapter_config.json", "adapter_model.safetensors")


def fingerprint(folder: Path, base: Path) -> str:
    """Changes when a file of the adapter or the base model does; raises OSError."""
    parts = [base, *(folder / name for name in FILES)]
    stats = [(str(path), path.stat()) for path in parts]
    told = repr([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def place(path: Path, base: Path, store: Path) -> tuple[Path, bool]:
    """The adapter's GGUF file, and whether it is there; raises InvalidValue."""
    if path.suffix == ".gguf" and path.is_file():
        return path, True
    try:
        target = store / f"{fingerprint(path, base)}.gguf"
    except OSError as error:
        missing = Path(str(error.filename)).name
        raise InvalidValue(f"The adapter cannot be read: {missing}: {error.strerror}.") from None
    store.mkdir(mode=0o700, parents=True, exist_ok=True)
    return target, target.is_file()


async def prepare(path: Path, base: Path, store: Path) -> Path:
    """The GGUF file of the adapter at `path`: itself, or made from a peft folder into `store`.

    Raises InvalidValue when it is no adapter or does not fit `base`, EngineFailed when the
    conversion takes too long.
    """
    target, made = place(path, base, store)
    if not made:
        await convert(path, base, target)
    return target


async def convert(folder: Path, base: Path, target: Path) -> None:
    child = await spawn(
        [
            *(sys.executable, "-m", "shared.adapter_gguf"),
            *(str(folder), str(base), str(target)),
        ],
        folder=Path(worker.__file__).parents[1],
    )
    try:
        async with asyncio.timeout(TIMEOUT):
            status = await asyncio.shield(child.exited)
            await child.drained()
    except TimeoutError:
        raise EngineFailed("The adapter could not be converted in time.") from None
    finally:
        await child.stop()
    if status != 0:
        said = clean((child.tail(1) or ["no reason given"])[0])
        raise InvalidValue(f"The adapter cannot be used: {said}.")
