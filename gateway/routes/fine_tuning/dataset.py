"""The files that a job names, looked up before it is stored."""

from __future__ import annotations

import asyncio

from gateway.routes.files.books import SANE
from shared import dataset
from shared.db import Connection
from shared.errors import InvalidValue
from shared.settings import Settings
from shared.store import file


async def check_dataset(
    connection: Connection, project: str, name: str, param: str, settings: Settings
) -> None:
    """Raises InvalidValue for what is no file of this project, or not for fine-tuning."""
    if param == "dataset_path" and not name.startswith(dataset.UPLOADED):
        try:
            await asyncio.to_thread(dataset.local, name, settings)
        except ValueError as error:
            raise InvalidValue(f"{error}.", param=param) from None
        return
    found = await file.find(connection, project, name) if SANE.match(name) else None
    if found is None:
        raise InvalidValue(f"No uploaded file has the id {name!r}.", param=param)
    if found.purpose != "fine-tune":
        raise InvalidValue(
            f"The file {name!r} was uploaded for {found.purpose}, not for fine-tune.", param=param
        )
