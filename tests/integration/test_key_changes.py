"""A changed key is forgotten as soon as Redis says so."""

from __future__ import annotations

import asyncio

import pytest
import redis.asyncio as redis

from gateway.auth import Keyring, watch_changes
from shared import keys
from shared.errors import InvalidApiKey
from shared.wire.account import Account

KEY = Account("key_1", "proj_1", "org_1", "mine", ())


class Listening:
    """Told of a change as the keyring is; the first is that of the subscription itself."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()

    def forget(self) -> None:
        self.begun.set()


async def test_a_revoked_key_is_refused_after_the_announcement(valkey_url: str) -> None:
    answers: list[Account | None] = [KEY]

    async def find(_: bytes) -> Account | None:
        return answers[-1]

    keyring = Keyring(find)
    listening = Listening()
    watch = asyncio.create_task(watch_changes(valkey_url, keyring, listening))
    client = redis.Redis.from_url(valkey_url)
    try:
        async with asyncio.timeout(10):
            await listening.begun.wait()
            assert (await keyring.find(b"Bearer secret")).id == "key_1"
            answers.append(None)
            assert (await keyring.find(b"Bearer secret")).id == "key_1"
            await client.publish(keys.KEYS_CHANGED, "key_1")
            with pytest.raises(InvalidApiKey):
                while await keyring.find(b"Bearer secret"):  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        await client.aclose()
