"""The files that a job names, looked up before it is stored."""

from __future__ import annotations

import asyncio

from shared import dataset
from shared.db import Connection
from shared.errors import InvalidValue
from shared.settings import Settings


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
    raise InvalidValue(f"No uploaded file has the id {name!r}.", param=param)
