"""What a job offers as models, while it is cancelled and while aliases are pointed at it.

Its children pretend to train (tests/fakes/training_child.py); everything else is real.
"""

from __future__ import annotations

import asyncio

from shared.db import transaction
from shared.store import fine_tuning, tuned_model
from shared.wire.openai.fine_tuning import AliasPut
from tests.fakes.training_child import STEPS
from tests.trainers import Trainer
from trainer import naming

OPEN = ("validating_files", "queued", "running")


async def test_cancelled_while_its_model_is_published_it_leaves_nothing(quick: Trainer) -> None:
    id_ = ""
    waits = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'file'::regclass"
    async with transaction(quick.pool) as connection:
        await connection.execute("LOCK TABLE file IN SHARE MODE")
        id_ = await quick.create()
        folder = quick.home / "tuned" / naming.short(id_)
        while await (await connection.execute(waits)).fetchone() is None:
            await quick.until(id_, lambda job: job.finished_at is None)
        assert folder.is_dir()
        assert await quick.move(id_, "cancelled", *OPEN) == "cancelled"
    await quick.until(id_, lambda _: not (quick.home / "training" / id_).exists())
    async with quick.pool.connection() as connection:
        models = await tuned_model.select(connection)
        files = await (await connection.execute(b"SELECT filename FROM file")).fetchall()
    offered = {quick.home / model.path for model in models}
    assert {path for path in folder.parent.iterdir() if path.is_dir()} == offered
    assert (folder in offered, len(offered), files) == (False, 3, [])


async def test_a_checkpoint_that_an_alias_may_go_back_to_stays(slow: Trainer) -> None:
    id_ = await slow.create()
    await slow.until(id_, lambda job: job.step >= 11)
    async with slow.pool.connection() as connection:
        while len(told := await fine_tuning.checkpoints(connection, id_, 10)) < 2:
            await slow.until(id_, lambda job: job.finished_at is None)
    second, first = told
    async with transaction(slow.pool) as connection:
        for target in (first.model, second.model):
            asked = AliasPut(target)
            assert await tuned_model.lock(connection, target, "proj_default")
            assert await tuned_model.put_alias(connection, "mine", "proj_default", asked)
    await slow.until(id_, lambda job: job.finished_at is not None)
    async with slow.pool.connection() as connection:
        left = [one.step for one in await fine_tuning.checkpoints(connection, id_, 10)]
        names = {model.name for model in await tuned_model.select(connection)}
    assert left == [STEPS, 20, 15, 10, 5]
    assert {first.model, second.model} <= names


async def test_a_checkpoint_gets_an_alias_while_it_is_retired(quick: Trainer) -> None:
    id_ = await quick.create()
    await quick.until(id_, lambda job: job.finished_at is not None)
    async with quick.pool.connection() as connection:
        newest, middle, oldest = await fine_tuning.checkpoints(connection, id_, 10)

    async def retire() -> list[str]:
        async with transaction(quick.pool) as connection:
            return await fine_tuning.retire_checkpoints(connection, id_, 1)

    waits = "SELECT 1 FROM pg_locks WHERE NOT granted"
    async with transaction(quick.pool) as connection:
        assert await tuned_model.lock(connection, oldest.model, "proj_default")
        asked = AliasPut(oldest.model)
        assert await tuned_model.put_alias(connection, "mine", "proj_default", asked)
        retiring = asyncio.create_task(retire())
        while await (await connection.execute(waits)).fetchone() is None:
            assert not retiring.done()
            await asyncio.sleep(0.01)
    assert await retiring == [middle.model]
    assert newest.step == STEPS
