"""Blobs in a bucket of an S3-compatible store.

A blob is a row of objects, `<prefix><blob>/00000000` and so on, of CHUNK bytes each but the last.
Each is written by one PUT, which a store does whole or not at all. So there are no multipart
uploads, whose parts a bucket keeps unseen when nobody completes them: what a dead process left is
in a listing, and goes with its blob.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime

import httpx

from shared import log
from shared.files import sigv4
from shared.files.address import Address
from shared.files.blobs import READ_SIZE, Lost, away
from shared.files.sigv4 import EMPTY

CHUNK = 4 * 1024 * 1024
TRIES = 3
FIRST_PAUSE = 0.2
"""Seconds before the second try; twice as long before each further one."""
TIMEOUT = httpx.Timeout(30.0, connect=5.0, pool=30.0)
CONNECTIONS = 32
CODE = re.compile(rb"<Code>([A-Za-z0-9]{1,100})</Code>")
KEY = re.compile(r"<Key>([^<&]+)</Key>")

logger = log.get("files")


class S3:
    def __init__(self, address: Address) -> None:
        self._address = address
        limits = httpx.Limits(max_connections=CONNECTIONS)
        self._client = httpx.AsyncClient(
            base_url=address.origin, timeout=TIMEOUT, limits=limits, trust_env=False
        )

    async def draft(self, name: str) -> S3Draft:
        return S3Draft(self, name)

    async def read(self, name: str, start: int, end: int) -> AsyncGenerator[bytes, None]:
        while start < end:
            number, skip = divmod(start, CHUNK)
            size = min(CHUNK - skip, end - start)
            async with aclosing(self._chunk(name, number, skip, size)) as pieces:
                async for data in pieces:
                    yield data
            start += size

    async def delete(self, name: str) -> None:
        """Until a listing is empty: a store lists a thousand at a time."""
        while keys := await self._list(name):
            for key in keys:
                await self._send("DELETE", key)

    async def close(self) -> None:
        await self._client.aclose()

    async def put(self, name: str, number: int, pieces: Sequence[bytes]) -> None:
        """One object, from pieces: to join them would take memory for each copy on the way."""
        digest = await asyncio.to_thread(digest_of, pieces)
        await self._send("PUT", self._key(name, number), pieces=pieces, digest=digest)

    async def _list(self, name: str) -> list[str]:
        prefix = f"{self._address.prefix}{name}/"
        reply = await self._send("GET", "", {"list-type": "2", "prefix": prefix})
        if reply.status_code >= 300:
            logger.error("the file store has no such bucket", bucket=self._address.bucket)
            raise away()
        return [key for key in KEY.findall(reply.text) if key.startswith(prefix)]

    async def _chunk(
        self, name: str, number: int, skip: int, size: int
    ) -> AsyncGenerator[bytes, None]:
        """Bytes [skip, skip + size) of one object."""
        headers = {"range": f"bytes={skip}-{skip + size - 1}"}
        reply = await self._send("GET", self._key(name, number), headers=headers, stream=True)
        try:
            if reply.headers.get("content-length") != str(size) or reply.status_code >= 300:
                raise Lost(name)
            async for data in reply.aiter_bytes(READ_SIZE):
                size -= len(data)
                yield data
        except httpx.HTTPError as error:
            logger.error("a file broke off", blob=name, error=type(error).__name__)
            raise away() from error
        finally:
            await reply.aclose()
        if size:
            raise Lost(name)

    def _key(self, name: str, number: int) -> str:
        return f"{self._address.prefix}{name}/{number:08d}"

    async def _send(
        self,
        method: str,
        key: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        pieces: Sequence[bytes] = (),
        digest: str = EMPTY,
        *,
        stream: bool = False,
    ) -> httpx.Response:
        """The reply, of a status below 300, or 404 or 416 to GET and DELETE. Raises Unavailable.

        Every request can be repeated, and is when the store does not answer or has trouble.
        """
        path = f"/{self._address.bucket}/{key}".rstrip("/")
        url = sigv4.encoded(path) + (f"?{sigv4.spelt(query)}" if query else "")
        if pieces:
            headers = {"content-length": str(sum(map(len, pieces)))}
        said = ""
        for number in range(TRIES):
            if number:
                await asyncio.sleep(FIRST_PAUSE * 2 ** (number - 1))
            now = datetime.now(UTC)
            own = sigv4.sign(self._address, method, path, query or {}, headers or {}, digest, now)
            content = each(pieces) if pieces else None
            request = self._client.build_request(method, url, headers=own, content=content)
            try:
                reply = await self._client.send(request, stream=stream)
            except httpx.HTTPError as error:
                said = type(error).__name__
                continue
            if reply.status_code < 300 or (reply.status_code in (404, 416) and not pieces):
                return reply
            said = await refused(reply)
            if reply.status_code < 500 and reply.status_code != 429:
                break
        logger.error("the file store refuses", method=method, key=key, said=said)
        raise away()


async def each(pieces: Sequence[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def digest_of(pieces: Sequence[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


async def refused(reply: httpx.Response) -> str:
    """What the store says, in its own word if it has one."""
    try:
        code = CODE.search(await reply.aread())
    except httpx.HTTPError as error:
        return f"{reply.status_code} {type(error).__name__}"
    finally:
        await reply.aclose()
    return f"{reply.status_code} {code[1].decode() if code else ''}".strip()


class S3Draft:
    """Objects are put as they fill; what is there before the blob is kept is swept with it."""

    def __init__(self, store: S3, name: str) -> None:
        self._store = store
        self._name = name
        self._gathered: list[bytes] = []
        self._size = 0
        self._count = 0

    async def write(self, data: bytes) -> None:
        while self._size + len(data) >= CHUNK:
            room = CHUNK - self._size
            self._add(data[:room])
            data = data[room:]
            await self.land()
        if data:
            self._add(data)

    async def land(self) -> None:
        """Puts what is gathered."""
        if self._gathered:
            gathered, self._gathered, self._size = self._gathered, [], 0
            await self._store.put(self._name, self._count, gathered)
            self._count += 1

    async def drop(self) -> None:
        self._gathered.clear()

    def _add(self, data: bytes) -> None:
        self._gathered.append(data)
        self._size += len(data)
