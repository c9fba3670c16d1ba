"""Bytes of files over a whole hub: sent and read in parts, cut off, lost, and how many at once."""

from __future__ import annotations

import http.client
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest

from tests.bench.cpu import resident
from tests.contract.client import Client
from tests.file_project import MIB, Project, send_half, wait
from tests.hub import Hub, running_hub


def test_a_body_of_unknown_length_is_held_to_the_quota(
    hub: Hub, new_project: Callable[..., Project]
) -> None:
    project = new_project(hub, file_bytes=10 * MIB)

    def endless() -> Iterator[bytes]:
        head = 'Content-Disposition: form-data; name="file"; filename="a"'
        yield f"--XX\r\n{head}\r\n\r\n".encode()
        for _ in range(400):
            yield b"x" * 65_536

    connection = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=60)
    headers = {
        "Authorization": f"Bearer {project.key}",
        "Content-Type": "multipart/form-data; boundary=XX",
    }
    try:
        connection.request("POST", "/v1/files", endless(), headers, encode_chunked=True)
    except OSError:
        # The hub answered and closed before all of it was sent.
        pass
    else:
        reply = connection.getresponse()
        assert (reply.status, b"storage_quota_exceeded" in reply.read()) == (400, True)
    connection.close()
    wait(lambda: not project.blobs())


def test_parts_of_a_file(project: Project) -> None:
    """Of one that consists of several blobs, which a reader cannot tell."""
    content = os.urandom(300_000)
    begun = project.sdk.uploads.create(
        bytes=len(content), filename='ä".bin', mime_type="a/b", purpose="user_data"
    )
    parts = [
        project.sdk.uploads.parts.create(begun.id, data=content[at : at + 70_000]).id
        for at in range(0, len(content), 70_000)
    ]
    made = project.sdk.uploads.complete(begun.id, part_ids=parts).file
    assert made is not None
    path = f"/files/{made.id}/content"
    for start, end in ((0, 1), (69_999, 70_001), (10, 299_999), (140_000, 210_000)):
        reply = project.client.send("GET", path, headers={"Range": f"bytes={start}-{end - 1}"})
        assert (reply.status, reply.body) == (206, content[start:end])
        assert reply.headers["content-range"] == f"bytes {start}-{end - 1}/300000"
    whole = project.client.send("GET", path)
    assert (whole.status, whole.body) == (200, content)
    assert whole.headers["content-disposition"] == (
        "attachment; filename=\"__.bin\"; filename*=UTF-8''%C3%A4%22.bin"
    )
    assert whole.headers["x-content-type-options"] == "nosniff"
    stale = {"Range": "bytes=0-1", "If-Range": '"another"'}
    assert project.client.send("GET", path, headers=stale).status == 200
    none = project.client.send("GET", path, headers={"Range": "bytes=300000-"})
    assert (none.status, none.headers["content-range"]) == (416, "bytes */300000")
    head = project.client.send("HEAD", path)
    assert (head.status, head.headers["content-length"], head.body) == (200, "300000", b"")


def test_a_client_that_leaves_while_it_sends(hub: Hub, project: Project) -> None:
    before = project.on_disk()
    connection = send_half(hub, project.key, 8 * MIB)
    wait(project.blobs)
    (name,) = project.blobs()
    wait(lambda: f"{name}.draft" in project.on_disk())
    connection.close()
    wait(lambda: not project.blobs())
    assert project.on_disk() <= before
    assert list(project.sdk.files.list()) == []


def requests_with(client: Client, status: int) -> int:
    text = client.send("GET", "//metrics").body.decode()
    label = f'aihub_requests_total{{route="files",status="{status}"}} '
    found = [line for line in text.splitlines() if line.startswith(label)]
    return int(found[0].removeprefix(label)) if found else 0


def test_a_client_that_leaves_while_it_reads(hub: Hub, project: Project) -> None:
    admin = Client(hub.base_url, hub.key)
    id_ = project.add(b"x" * 32 * MIB)
    before = requests_with(admin, 499)
    connection = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=60)
    path = f"/v1/files/{id_}/content"
    connection.request("GET", path, headers={"Authorization": f"Bearer {project.key}"})
    reply = connection.getresponse()
    assert len(reply.read(MIB)) == MIB
    reply.close()
    connection.close()
    wait(lambda: requests_with(admin, 499) == before + 1)


def test_what_is_lost_on_the_disk_is_no_whole_answer(hub: Hub, project: Project) -> None:
    id_ = project.add(b"x" * MIB)
    (name,) = project.blobs()
    blob = hub.home / "files" / name
    os.truncate(blob, MIB // 2)
    with pytest.raises(http.client.IncompleteRead):
        project.client.send("GET", f"/files/{id_}/content")
    blob.unlink()
    assert project.client.send("GET", f"/files/{id_}/content").status == 500
    project.sdk.files.delete(id_)
    wait(lambda: not project.blobs())


def test_the_size_of_one_file_is_bounded_and_memory_is_flat(
    new_project: Callable[..., Project],
) -> None:
    """Two clients at once send 64 MiB each, and read them."""
    with running_hub(AIHUB_FILE_LIMIT="64MiB") as hub:
        project = new_project(hub)
        project.add()
        before = resident(hub.pids("gateway"))
        highest = before
        content = os.urandom(MIB) * 64

        def exchange() -> None:
            id_ = project.add(content)
            with project.sdk.files.with_streaming_response.content(id_) as reply:
                assert sum(map(len, reply.iter_bytes(MIB))) == len(content)

        clients = [threading.Thread(target=exchange) for _ in range(2)]
        for client in clients:
            client.start()
        while any(client.is_alive() for client in clients):
            highest = max(highest, resident(hub.pids("gateway")))
            time.sleep(0.01)
        assert sorted(project.blobs().values()) == [1, len(content), len(content)]
        assert highest - before < 24 * MIB
        with pytest.raises(openai.APIStatusError) as large:
            project.add(content + b"x" * MIB)
        assert large.value.status_code == 413
        wait(lambda: len(project.blobs()) == 3)
        assert {path.name for path in Path(hub.home, "files").iterdir()} == set(project.blobs())
