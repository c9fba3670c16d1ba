"""What a long job leaves behind: bounded events, every step in its file, a picture of all."""

from __future__ import annotations

import itertools

import pytest

from shared import ids, training
from shared.db import Pool, transaction
from shared.store import fine_tuning as store
from shared.store import metric
from shared.wire.training import Asked, Claim, Created, Note
from trainer import publish
from trainer.book import Book

LONG = 50_001


@pytest.fixture
async def job(pool: Pool) -> str:
    created = Created(
        id=ids.new("ftjob-"),
        project="proj_default",
        key="key_test",
        name=None,
        model="tiny",
        method="supervised",
        training_file="a.jsonl",
        validation_file=None,
        asked=Asked(),
        suffix=None,
        seed=1,
        metadata={},
    )
    async with transaction(pool) as connection:
        await store.insert(connection, created)
    return created.id


def step(number: int) -> Note:
    return Note(f"Step {number}", type="metrics", data={"step": number, "train_loss": 1 / number})


async def test_older_events_are_thinned_and_the_newest_are_whole(pool: Pool, job: str) -> None:
    last = 3_000
    async with transaction(pool) as connection:
        await store.note(connection, job, [Note("Created"), Note("It broke", level="error")])
        for first in range(1, last, 30):
            await store.note(connection, job, [step(first + n) for n in range(30)])
    async with pool.connection() as connection:
        events = await store.following(connection, job, 10_000)
        kept = [event.data["step"] for event in events if event.type == "metrics"]
        rows = await metric.select(connection, job, 10_000)
    most = 2 * store.KEPT_EVENTS + store.THIN_EVERY + 30
    assert store.KEPT_EVENTS < len(kept) <= most
    assert kept[-store.KEPT_EVENTS :] == list(range(last - store.KEPT_EVENTS + 1, last + 1))
    assert (kept[0], kept) == (1, sorted(set(kept)))  # type: ignore[type-var]
    words = [event.message for event in events if event.type == "message"]
    assert words == ["Created", "It broke", store.THINNED]
    assert [row.step for row in rows] == list(range(1, last + 1))


async def test_a_long_jobs_file_has_every_step_and_its_picture_both_ends(
    pool: Pool, job: str, valkey_url: str
) -> None:
    async with pool.connection() as connection:
        await connection.execute(
            b"INSERT INTO fine_tuning_metric (job_id, step, train_loss, valid_loss)"
            b" SELECT %(job)s, step, 1.5, CASE WHEN step %% 100 = 0 THEN 2.5 END"
            b" FROM generate_series(0, %(last)s) AS step",
            {"job": job, "last": LONG - 1},
        )
        points = await metric.curve(connection, job)
    for name, last in (("train_loss", LONG - 1), ("valid_loss", LONG - 1)):
        steps = [point.step for point in points if point.name == name]
        assert (steps[0], steps[-1]) == (0, last)
        assert metric.MOST_POINTS / 3 < len(steps) <= metric.MOST_POINTS + 1
        gaps = {after - before for before, after in itertools.pairwise(steps)}
        assert len(gaps) <= 2
    book = Book(pool, training.client(valkey_url), Claim(job, 0, 0))
    pieces = [piece async for piece in publish.lines(book)]
    assert max(map(len, pieces)) < 200_000
    table = b"".join(pieces).decode().splitlines()
    assert table[0] == "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"
    assert table[1:3] == ["0,1.5,,2.5,", "1,1.5,,,"]
    assert [int(line.partition(",")[0]) for line in table[1:]] == list(range(LONG))
    async with pool.connection() as connection:
        await metric.thin(connection, job)
        thinned = await metric.curve(connection, job)
        kept = await metric.select(connection, job, LONG)
    assert (kept[0].step, kept[-1].step) == (0, LONG - 1)
    assert len(kept) <= metric.MOST_POINTS + 1 + LONG // 100
    steps = [point.step for point in thinned if point.name == "train_loss"]
    assert (steps[0], steps[-1]) == (0, LONG - 1)
    await book.link.aclose(close_connection_pool=True)


async def test_a_validation_joins_its_step(pool: Pool, job: str) -> None:
    valid = Note("Validation", type="metrics", data={"step": 2, "valid_loss": 0.25})
    async with transaction(pool) as connection:
        await store.note(connection, job, [step(1), step(2), valid])
        rows = await metric.select(connection, job, 10, 1)
    assert [(row.train_loss, row.valid_loss) for row in rows] == [(0.5, 0.25)]


async def test_a_validation_that_is_told_again_is_known(pool: Pool, job: str) -> None:
    claim = Claim(job, 0, 0)
    valid = Note("Validation", type="metrics", data={"step": 2, "valid_loss": 0.25})
    async with transaction(pool) as connection:
        await store.note(connection, job, [step(2), step(3)])
        assert await store.validated(connection, claim, 2, valid)
        assert await store.validated(connection, claim, 2, valid)
        assert not await store.validated(connection, Claim(job, 1, 0), 2, valid)
        events = await store.following(connection, job, 10)
    assert [event.message for event in events] == ["Step 2", "Step 3", "Validation"]
