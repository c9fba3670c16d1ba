"""Exports by a real trainer: what comes out, what is refused, and what is left when it dies."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import signal
import tarfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize
from psycopg.types.json import Jsonb
from safetensors.numpy import load, save_file

from shared import ids, training
from shared.adapter_gguf import permuted
from shared.db import transaction
from shared.store import export, tuned_model
from shared.wire.export import Export, Format, Quantisation
from tests import adapters, models
from tests.hub import alive, command_line, descendants
from tests.layer import SHAPES, Arrays, a_base, a_delta, expected, gguf_file
from tests.trainers import Trainer, running_trainer

PROJECT = "proj_default"
MODEL = "ft:tiny:default:mine:1"
WITHIN = 90.0


class Place:
    """A trainer, and one tuned model of a base of one layer."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.home = trainer.home

    async def execute(self, query: bytes, **values: object) -> None:
        async with self.trainer.pool.connection() as connection:
            await connection.execute(query, values)

    async def publish(self, name: str, base: Path, gguf: Path | None, adapter: Path) -> None:
        """A model as a job would have left it."""
        job = ids.new("ftjob-")
        plan = {"plan": {"base": str(base), "base_gguf": None if gguf is None else str(gguf)}}
        await self.execute(
            b"INSERT INTO fine_tuning_job (id, project_id, key_id, model, method, status,"
            b" training_file, asked, plan, seed, finished_at) VALUES (%(job)s, 'proj_default', 'k',"
            b" 'tiny', 'supervised', 'succeeded', 'a', '{}', %(plan)s, 1, now())",
            job=job,
            plan=Jsonb(plan),
        )
        await self.execute(
            b"INSERT INTO tuned_model (name, project_id, base, job_id, path, bytes)"
            b" VALUES (%(name)s, 'proj_default', 'tiny', %(job)s, %(path)s, 1)",
            name=name,
            job=job,
            path=f"tuned/{adapter.name}",
        )

    async def ask(
        self, format_: Format, quantisation: Quantisation | None = None, model: str = MODEL
    ) -> str:
        id_ = ids.new("export-")
        async with transaction(self.trainer.pool) as connection:
            await export.insert(connection, id_, PROJECT, model, format_, quantisation)
        await training.announce(self.trainer.link, training.EXPORTS)
        return id_

    async def find(self, id_: str) -> Export | None:
        async with self.trainer.pool.connection() as connection:
            found = await export.select(connection, PROJECT, 1, id_=id_)
        return found[0] if found else None

    async def until(self, reached: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + WITHIN
        while not reached():
            assert time.monotonic() < deadline, (what, self.trainer.server.child.log.tail())
            await asyncio.sleep(0.02)

    async def ended(self, id_: str) -> Export:
        deadline = time.monotonic() + WITHIN
        while (found := await self.find(id_)) is None or found.finished_at is None:
            assert time.monotonic() < deadline, (found, self.trainer.server.child.log.tail())
            await asyncio.sleep(0.02)
        return found

    async def content(self, ended: Export) -> bytes:
        assert ended.status == "succeeded", ended.error
        assert ended.file_id is not None
        data = await asyncio.to_thread((await self.trainer.fetch(ended.file_id)).read_bytes)
        assert len(data) == ended.bytes
        return data

    def merging(self) -> list[int]:
        below = descendants(self.trainer.server.child.pid)
        return [pid for pid in below if "trainer.merging" in command_line(pid) and alive(pid)]

    def scratch(self) -> list[str]:
        folder = self.home / "exports"
        return [path.name for path in folder.iterdir()] if folder.is_dir() else []


@pytest.fixture(scope="module")
def base() -> Arrays:
    return a_base()


@pytest.fixture(scope="module")
def deltas() -> Arrays:
    return a_delta()


@pytest.fixture
async def place(
    home: Path, database_url: str, valkey_url: str, base: Arrays, deltas: Arrays
) -> AsyncIterator[Place]:
    async with running_trainer(home, database_url, valkey_url) as trainer:
        place = Place(trainer)
        folder = home / "base"
        folder.mkdir()
        save_file(base, folder / "model.safetensors")
        (folder / "config.json").write_text('{"model_type": "llama"}')
        gguf = gguf_file(home / "base.gguf", base, GGMLQuantizationType.Q8_0)
        named = {"r": 4, "lora_alpha": 12, "base_model_name_or_path": "/secret/place/tiny"}
        adapter = adapters.save(home / "tuned" / "one", tensors=deltas, **named)
        (adapter / "adapter.gguf").write_bytes(b"GGUF, as it were")
        await place.publish(MODEL, folder, gguf, adapter)
        yield place


@pytest.fixture
async def large(place: Place) -> str:
    """A model whose merge takes seconds: of the embedded base."""
    name = "ft:large:default::1"
    adapter = adapters.save(place.home / "tuned" / "large")
    gguf = models.folder() / f"{models.CHAT}.q8_0.gguf"
    await place.publish(name, place.home / "base", gguf, adapter)
    return name


def unpacked(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = {}
        for member in tar.getmembers():
            file = tar.extractfile(member)
            assert file is not None
            found[member.name] = file.read()
    return found


async def test_each_format_is_what_it_says(place: Place, base: Arrays, deltas: Arrays) -> None:
    asked = [
        await place.ask("adapter"),
        await place.ask("safetensors"),
        await place.ask("gguf", "q8_0"),
        await place.ask("gguf", "f16"),
    ]
    adapter, folder, q8_0, f16 = [await place.ended(id_) for id_ in asked]

    files = unpacked(await place.content(adapter))
    assert sorted(files) == [
        f"ft-tiny-default-mine-1/{name}"
        for name in ("adapter.gguf", "adapter_config.json", "adapter_model.safetensors")
    ]
    stored = place.home / "tuned" / "one"
    settings = json.loads(files["ft-tiny-default-mine-1/adapter_config.json"])
    assert settings["base_model_name_or_path"] == "tiny"
    weights = files["ft-tiny-default-mine-1/adapter_model.safetensors"]
    assert weights == (stored / "adapter_model.safetensors").read_bytes()

    files = unpacked(await place.content(folder))
    assert files["ft-tiny-default-mine-1/config.json"] == b'{"model_type": "llama"}'
    merged = load(files["ft-tiny-default-mine-1/model.safetensors"])
    assert sorted(merged) == sorted(base)
    for name in base:
        assert np.allclose(merged[name], expected(base, deltas, name), atol=1e-5), name

    for ended, kind, off in ((q8_0, "Q8_0", 0.02), (f16, "F16", 0.01)):
        whole = place.home / "whole.gguf"
        whole.write_bytes(await place.content(ended))
        tensors = {tensor.name: tensor for tensor in GGUFReader(whole).tensors}
        for module, (name, _, heads) in SHAPES.items():
            wanted = expected(base, deltas, f"model.layers.0.{module}.weight")
            rows = permuted(wanted, heads) if heads else wanted
            tensor = tensors[f"blk.0.{name}.weight"]
            assert tensor.tensor_type == GGMLQuantizationType[kind]
            found = dequantize(tensor.data, tensor.tensor_type)
            assert np.abs(found - rows).max() < off * np.abs(rows).max(), module
    assert place.scratch() == []


@pytest.mark.parametrize(("number", "starts"), [(signal.SIGKILL, 2), (signal.SIGTERM, 1)])
async def test_a_trainer_that_ends_leaves_nothing_half(
    place: Place, number: signal.Signals, starts: int
) -> None:
    id_ = await place.ask("gguf", "q8_0")
    await place.until(lambda: bool(place.merging()) and bool(place.scratch()), "it merges")
    (merging,) = place.merging()
    place.trainer.server.child.signal(number)
    await place.trainer.until_gone(merging)
    place.trainer.restart()
    ended = await place.ended(id_)
    data = await place.content(ended)
    (place.home / "whole.gguf").write_bytes(data)
    assert len(GGUFReader(place.home / "whole.gguf").tensors) == len(SHAPES) + 2
    await place.until(lambda: place.scratch() == [], "the scratch is gone")
    async with place.trainer.pool.connection() as connection:
        cursor = await connection.execute(b"SELECT count(*) AS files FROM file")
        assert await cursor.fetchone() == {"files": 1}
        cursor = await connection.execute(b"SELECT starts FROM model_export")
        assert await cursor.fetchone() == {"starts": starts}


async def test_a_merge_that_is_killed_fails_and_one_that_is_deleted_ends(
    place: Place, large: str
) -> None:
    id_ = await place.ask("gguf", "q8_0", large)
    await place.until(lambda: bool(place.merging()), "it merges")
    os.kill(place.merging()[0], signal.SIGKILL)
    ended = await place.ended(id_)
    assert (ended.status, ended.file_id) == ("failed", None)
    assert ended.error is not None
    assert ended.error.message.startswith("It cannot be merged")
    await place.until(lambda: place.scratch() == [], "the scratch is gone")

    id_ = await place.ask("gguf", "f16", large)
    await place.until(lambda: bool(place.merging()), "it merges")
    (merging,) = place.merging()
    async with transaction(place.trainer.pool) as connection:
        assert await export.delete(connection, id_, PROJECT)
    await training.announce(place.trainer.link, training.EXPORTS)
    await place.trainer.until_gone(merging)
    await place.until(lambda: place.scratch() == [], "the scratch is gone")
    assert (await place.ended(await place.ask("adapter"))).status == "succeeded"


async def refused(place: Place, id_: str) -> tuple[str, str]:
    ended = await place.ended(id_)
    assert (ended.status, ended.file_id) == ("failed", None)
    assert ended.error is not None
    return ended.error.code, ended.error.message


async def test_what_cannot_be_made_says_why(place: Place, base: Arrays) -> None:
    await place.execute(b"UPDATE project SET file_bytes = 20000")
    code, words = await refused(place, await place.ask("safetensors"))
    assert (code, "20000 bytes of files" in words) == ("storage_quota_exceeded", True)
    await place.execute(b"UPDATE project SET file_bytes = NULL")
    never = ids.new("export-")
    await place.execute(
        b"INSERT INTO model_export (id, project_id, model, format, starts)"
        b" VALUES (%(id)s, 'proj_default', %(model)s, 'adapter', 5)",
        id=never,
        model=MODEL,
    )
    await training.announce(place.trainer.link, training.EXPORTS)
    code, words = await refused(place, never)
    assert (code, words) == ("server_error", "It was begun 5 times and never came to its end.")
    (place.home / "base" / "model.safetensors").unlink()
    code, words = await refused(place, await place.ask("safetensors"))
    assert (code, words) == (
        "model_unfit",
        "The base that it was trained on is not there any more.",
    )
    (place.home / "base.gguf").write_bytes(b"GGUF")
    code, words = await refused(place, await place.ask("gguf", "q8_0"))
    assert (code, "base.gguf is not a usable GGUF file" in words) == ("model_unfit", True)
    gguf_file(place.home / "base.gguf", base, GGMLQuantizationType.Q8_0)
    other = adapters.save(place.home / "other") / "adapter_model.safetensors"
    shutil.copy(other, place.home / "tuned" / "one" / other.name)
    code, words = await refused(place, await place.ask("gguf", "q8_0"))
    assert (code, words[:42]) == ("model_unfit", "It cannot be merged: the base model has no")
    async with place.trainer.pool.connection() as connection:
        assert await tuned_model.delete(connection, MODEL, PROJECT)
    code, words = await refused(place, await place.ask("adapter"))
    assert (code, words) == ("model_not_found", f"The model {MODEL!r} was deleted.")
    assert place.scratch() == []
    async with place.trainer.pool.connection() as connection:
        cursor = await connection.execute(b"SELECT count(*) AS blobs FROM blob")
        assert await cursor.fetchone() == {"blobs": 0}
