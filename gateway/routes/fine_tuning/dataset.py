"""The files that a job names, looked up before it is stored."""

from __future__ import annotations

import asyncio

from gateway.routes.files.books import SANE
from shared import dataset
from shared.db import Connection
from shared.errors import InvalidValue, RateLimited, StorageExhausted
from shared.files import place
from shared.files.arrival import told
from shared.settings import Settings
from shared.store import blob, file, fine_tuning


async def check_dataset(
    connection: Connection, project: str, name: str, param: str, settings: Settings
) -> int:
    """Its bytes. Raises InvalidValue for what is no file of the project, or not for fine-tuning."""
    if param == "dataset_path" and not name.startswith(dataset.UPLOADED):
        try:
            path = await asyncio.to_thread(dataset.local, name, settings)
            return (await asyncio.to_thread(path.stat)).st_size
        except ValueError as error:
            raise InvalidValue(f"{error}.", param=param) from None
    found = await file.find(connection, project, name) if SANE.match(name) else None
    if found is None:
        raise InvalidValue(f"No uploaded file has the id {name!r}.", param=param)
    if found.purpose != "fine-tune":
        raise InvalidValue(
            f"The file {name!r} was uploaded for {found.purpose}, not for fine-tune.", param=param
        )
    return found.bytes


async def check_room(
    connection: Connection, project: str, size: int, param: str, settings: Settings
) -> None:
    """Whether the project may have one more job, and copies of so many bytes for it.

    Jobs of one project that are made at once look one after the other. Raises RateLimited and
    StorageExhausted.
    """
    room = await blob.room(connection, project, place.bounds(settings).quota)
    if await fine_tuning.count_open(connection, project) >= settings.train_jobs:
        raise RateLimited(
            f"The project has {settings.train_jobs} fine-tuning jobs that have not ended, which is"
            " as many as it may have. Wait for one, or cancel one."
        )
    if room.bytes + size > room.quota:
        raise StorageExhausted(
            f"A job keeps a copy of its files until it ends: {told(size)}. The project may have"
            f" {told(room.quota)} of files and has {told(room.bytes)}. Delete files first, or have"
            " the quota raised.",
            param=param,
        )
