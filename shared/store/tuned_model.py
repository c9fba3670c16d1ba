"""Models that came of fine-tuning, and aliases that point at them."""

from __future__ import annotations

import msgspec

from shared.db import Connection, queries
from shared.store.window import rows
from shared.wire.openai.fine_tuning import AliasPut, ModelAlias
from shared.wire.training import Publication, TunedModel

SQL = queries("tuned_model")
MOST = 10_000
"""Models and aliases that are offered."""


class Deleted(msgspec.Struct, frozen=True):
    """A model whose files are still there, and are no other's."""

    name: str
    path: str


async def publish(connection: Connection, job: str, model: Publication) -> bool:
    """Offers a model of this job's project; False: it is known and stays as it is."""
    cursor = await connection.execute(
        SQL["insert_tuned_model"], {**msgspec.structs.asdict(model), "job": job}
    )
    return await cursor.fetchone() is not None


async def known(connection: Connection, name: str) -> bool:
    """Whether it was ever offered."""
    cursor = await connection.execute(SQL["know_tuned_model"], {"name": name})
    return await cursor.fetchone() is not None


async def select(connection: Connection) -> list[TunedModel]:
    return await rows(connection, SQL["find_tuned_models"], {"limit": MOST}, TunedModel)


async def delete(connection: Connection, name: str, project: str) -> bool:
    """Offers it no longer; its trainer removes the files that no other model has."""
    cursor = await connection.execute(SQL["delete_tuned_model"], {"name": name, "project": project})
    return await cursor.fetchone() is not None


async def paths(connection: Connection, job: str) -> list[str]:
    """Where the models of a job lie whose files are there."""
    cursor = await connection.execute(SQL["tuned_model_paths"], {"job": job})
    return [row["path"] for row in await cursor.fetchall()]


async def deleted(connection: Connection) -> list[Deleted]:
    return await rows(connection, SQL["find_deleted_models"], {}, Deleted)


async def removed(connection: Connection, name: str) -> None:
    """Its files are gone."""
    await connection.execute(SQL["removed_tuned_model"], {"name": name})


async def pointing_at(connection: Connection, model: str) -> list[str]:
    """The aliases that send requests to it."""
    cursor = await connection.execute(SQL["aliases_of_model"], {"model": model})
    return [row["name"] for row in await cursor.fetchall()]


async def lock(connection: Connection, name: str, project: str) -> str | None:
    """The base of a model that is offered, and stays so until this transaction ends."""
    cursor = await connection.execute(SQL["lock_tuned_model"], {"name": name, "project": project})
    row = await cursor.fetchone()
    return None if row is None else row["base"]


async def aliases(
    connection: Connection, project: str | None = None, name: str | None = None
) -> list[ModelAlias]:
    values = {"project": project, "name": name, "limit": MOST}
    return await rows(connection, SQL["find_aliases"], values, ModelAlias)


async def put_alias(connection: Connection, name: str, project: str, asked: AliasPut) -> bool:
    """False: the name is another project's."""
    values = {**msgspec.structs.asdict(asked), "name": name, "project": project}
    cursor = await connection.execute(SQL["put_alias"], values)
    return await cursor.fetchone() is not None


async def lock_alias(connection: Connection, name: str, project: str) -> None:
    await connection.execute(SQL["lock_alias"], {"name": name, "project": project})


async def delete_alias(connection: Connection, name: str, project: str) -> bool:
    cursor = await connection.execute(SQL["delete_alias"], {"name": name, "project": project})
    return await cursor.fetchone() is not None
