"""What was measured in each step of a job: all of them, whatever becomes of its events."""

from __future__ import annotations

from shared.db import Connection, queries
from shared.store.window import rows
from shared.wire.openai.fine_tuning import Fields
from shared.wire.training import Metric, Point

SQL = queries("metric")
MOST_POINTS = 1_500
"""Of one curve; of more, every second, third, … is read, and the last one."""
COLUMNS = {
    "train_loss": "train_loss",
    "train_accuracy": "train_mean_token_accuracy",
    "valid_loss": "valid_loss",
    "valid_accuracy": "valid_mean_token_accuracy",
}
"""Of the table, and how events name them."""


async def put(connection: Connection, job: str, data: Fields) -> None:
    """Adds to what is known of the step; `data` is an event's."""
    values = {column: data.get(name) for column, name in COLUMNS.items()}
    await connection.execute(SQL["put_metric"], {**values, "job": job, "step": data["step"]})


async def select(connection: Connection, job: str, limit: int, after: int = -1) -> list[Metric]:
    """By step, behind `after`; the first step is 0."""
    values = {"job": job, "limit": limit, "after": after}
    return await rows(connection, SQL["find_metrics"], values, Metric)


async def validated(connection: Connection, job: str, step: int) -> bool:
    """Whether the validation loss of this step is known."""
    found = await select(connection, job, 1, step - 1)
    return bool(found) and found[0].step == step and found[0].valid_loss is not None


async def thin(connection: Connection, job: str) -> None:
    """Leaves what the curve needs, once all of it is in a file."""
    await connection.execute(SQL["thin_metrics"], {"job": job, "most": MOST_POINTS})


async def curve(connection: Connection, job: str) -> list[Point]:
    """The training loss by step, and the validation loss, each of at most MOST_POINTS + 1."""
    values = {"job": job, "most": MOST_POINTS}
    return await rows(connection, SQL["find_curve"], values, Point)
