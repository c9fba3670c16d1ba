"""Files in a real S3-compatible store: by themselves, and through a whole hub."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest

from shared.errors import Unavailable
from shared.files.address import parse
from shared.files.blobs import Lost
from shared.files.s3 import CHUNK, S3
from tests.bench.cpu import resident
from tests.file_project import MIB, Project, send_half, wait
from tests.hub import Hub, running_hub
from tests.s3 import QUOTED, S3Server, running_s3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_s3(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
async def store(server: S3Server) -> AsyncIterator[S3]:
    made = S3(parse(server.url))
    yield made
    await made.close()


async def stored(store: S3, name: str, content: bytes) -> None:
    draft = await store.draft(name)
    for at in range(0, len(content), 100_000):
        await draft.write(content[at : at + 100_000])
    await draft.land()


async def content(store: S3, name: str, start: int, end: int) -> bytes:
    return b"".join([data async for data in store.read(name, start, end)])


async def test_what_is_written_is_read_and_goes(server: S3Server, store: S3) -> None:
    whole = os.urandom(2 * CHUNK + 12_345)
    await stored(store, "blob_a", whole)
    await stored(store, "blob_ab", b"another")
    sizes = [CHUNK, CHUNK, 12_345]
    names = [f"of/hub/blob_a/0000000{number}" for number in range(3)]
    assert server.objects().items() >= dict(zip(names, sizes, strict=True)).items()
    for start, end in ((0, len(whole)), (CHUNK - 3, 2 * CHUNK + 3), (5, 6), (CHUNK, 2 * CHUNK)):
        assert await content(store, "blob_a", start, end) == whole[start:end]
    await store.delete("blob_a")
    assert list(server.objects()) == ["of/hub/blob_ab/00000000"]
    await store.delete("blob_a")
    await store.delete("blob_ab")
    assert server.objects() == {}


async def test_what_is_not_there_is_not_made_up(server: S3Server, store: S3) -> None:
    await stored(store, "blob_c", b"x" * (CHUNK + 10))
    for name, end in (("blob_d", 1), ("blob_c", CHUNK + 11), ("blob_c", 3 * CHUNK)):
        with pytest.raises(Lost):
            await content(store, name, 0, end)
    await store.delete("blob_c")
    assert server.objects() == {}


async def test_a_store_that_refuses_or_is_away(server: S3Server) -> None:
    for url in (
        server.url.replace(QUOTED, "wrong"),
        server.url.replace("/aihub-files/", "/no-such-bucket/"),
        server.url.replace(f":{server.port}/", ":1/"),
    ):
        store = S3(parse(url))
        draft = await store.draft("a")
        await draft.write(b"x")
        for attempt in (draft.land, lambda: store.delete("a")):  # noqa: B023
            with pytest.raises(Unavailable):
                await attempt()
        await store.close()


@pytest.fixture(scope="module")
def remote(server: S3Server) -> Iterator[Hub]:
    with running_hub(AIHUB_FILE_STORE_URL=server.url) as hub:
        yield hub


def test_a_hub_keeps_its_files_there(remote: Hub, server: S3Server) -> None:
    project = Project(remote)
    whole = os.urandom(CHUNK + 1000)
    id_ = project.add(whole)
    assert sorted(server.objects().values()) == [1000, CHUNK]
    assert project.sdk.files.content(id_).read() == whole
    path = f"/files/{id_}/content"
    part = project.client.send("GET", path, headers={"Range": f"bytes={CHUNK - 2}-{CHUNK + 1}"})
    assert (part.status, part.body) == (206, whole[CHUNK - 2 : CHUNK + 2])
    project.sdk.files.delete(id_)
    wait(lambda: not server.objects())
    assert not (remote.home / "files").exists()


def test_a_gateway_killed_leaves_nothing_in_the_bucket(remote: Hub, server: S3Server) -> None:
    project = Project(remote)
    sending = send_half(remote, project.key, 32 * MIB)
    wait(lambda: len(server.objects()) == 3)
    for pid in remote.pids("gateway"):
        remote.kill_pid(pid)
    sending.close()
    remote.wait_ready()
    wait(lambda: not project.blobs())
    assert server.objects() == {}


def test_a_store_that_goes_and_comes_back(remote: Hub, server: S3Server) -> None:
    project = Project(remote)
    id_ = project.add(b"kept")
    gone = project.add(b"gone")
    server.stop()
    with pytest.raises(openai.InternalServerError) as away:
        project.add(b"more")
    assert away.value.status_code == 503
    with pytest.raises(openai.InternalServerError):
        project.sdk.files.content(id_)
    project.sdk.files.delete(gone)
    server.start()
    assert project.sdk.files.content(id_).read() == b"kept"
    wait(lambda: list(server.objects().values()) == [4])
    assert [file.id for file in project.sdk.files.list()] == [id_]


def test_memory_is_flat(remote: Hub, tmp_path: Path) -> None:
    project = Project(remote)
    project.add(b"x" * 2 * CHUNK)
    path = tmp_path / "large"
    path.write_bytes(os.urandom(MIB) * 96)
    before = highest = resident(remote.pids("gateway"))
    with ThreadPoolExecutor(1) as sender:
        sending = sender.submit(project.sdk.files.create, file=path, purpose="user_data")
        while not sending.done():
            highest = max(highest, resident(remote.pids("gateway")))
            time.sleep(0.01)
    with project.sdk.files.with_streaming_response.content(sending.result().id) as reply:
        for _ in reply.iter_bytes(MIB):
            highest = max(highest, resident(remote.pids("gateway")))
    assert highest - before < 24 * MIB
