"""Word of fine-tuning jobs: trainers are called by an arq job, everybody listens to one channel.

What is said here may be lost; PostgreSQL knows, and those concerned look there every few seconds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import redis.asyncio as redis
from arq.connections import ArqRedis

from shared import keys, log, queue

TAKE = "take"
"""The function of a trainer that has it look for jobs."""
MODELS = b"models"
"""On the channel: models or aliases have changed."""
EXPORTS = b"exports"
"""On the channel: an export is asked for, or not wanted any more."""
RECONNECT_SECONDS = 0.5

logger = log.get("training")


def client(url: str) -> ArqRedis:
    """With arq's way of queueing jobs, in our serialisation."""
    pool = redis.ConnectionPool.from_url(url)
    return ArqRedis(
        pool,
        job_serializer=queue.serialize,
        job_deserializer=queue.deserialize,
        default_queue_name=keys.TRAINING_QUEUE,
    )


async def call(link: ArqRedis, job: str) -> None:
    """Calls a trainer for a job; one that is queued already is not queued again."""
    try:
        await link.enqueue_job(TAKE, job, _job_id=job)
    except (redis.RedisError, OSError) as fault:
        logger.warning("no trainer was called, one will look", job=job, error=str(fault))


async def announce(link: redis.Redis, word: bytes) -> None:
    """Tells everybody of a job, or of MODELS."""
    try:
        await link.publish(keys.TRAINING, word)
    except (redis.RedisError, OSError) as fault:
        logger.warning("a change was not announced", word=word.decode(), error=str(fault))


async def words(link: redis.Redis) -> AsyncIterator[bytes]:
    """What is announced; ends with redis.RedisError or OSError. The first word is empty: from here
    on nothing is missed."""
    async with link.pubsub(ignore_subscribe_messages=True) as subscription:
        await subscription.subscribe(keys.TRAINING)
        yield b""
        async for message in subscription.listen():
            yield message["data"]
