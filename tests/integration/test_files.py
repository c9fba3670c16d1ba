"""Files over a whole hub: whose they are, how many, how they end, and what stays of them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import psycopg
import pytest
from openai import OpenAI

from shared.settings import Settings
from tests.bench.cpu import resident
from tests.contract.client import Client
from tests.hub import Hub, running_hub

WITHIN = 60.0
MIB = 1 << 20


class Project:
    """A project of its own, with a key."""

    def __init__(self, hub: Hub, **fields: Any) -> None:
        self.hub = hub
        self._admin = Client(hub.base_url, hub.key)
        name = f"files {os.urandom(4).hex()}"
        self.id = self.send("POST", "projects", {"name": name, **fields})["id"]
        self.key = self.new_key("files")
        self.sdk = OpenAI(base_url=hub.base_url, api_key=self.key, max_retries=0)
        self.client = Client(hub.base_url, self.key)

    def send(self, method: str, path: str, body: Any) -> Any:
        reply = self._admin.send(method, f"//api/v1/admin/{path}", encoded(body))
        assert reply.status == 200, reply.body
        return reply.json

    def new_key(self, *scopes: str) -> str:
        body = {"name": "test", "project": self.id, "scopes": scopes}
        return str(self.send("POST", "keys", body)["value"])

    def rows(self, query: str) -> list[Any]:
        sockets = Settings(home=str(self.hub.home)).sockets
        with psycopg.connect(f"postgresql://aihub@/aihub?host={sockets}") as connection:
            cursor = connection.execute(query.encode(), {"project": self.id})
            return cursor.fetchall() if cursor.description else []

    def blobs(self) -> dict[str, int]:
        """Bytes that are booked."""
        return dict(self.rows("SELECT id, bytes FROM blob WHERE project_id = %(project)s"))

    def on_disk(self) -> set[str]:
        return {path.name for path in (self.hub.home / "files").iterdir()}

    def add(self, content: bytes = b"x", name: str = "a.txt") -> str:
        return self.sdk.files.create(file=(name, content), purpose="user_data").id


def encoded(body: Any) -> bytes:
    return json.dumps(body).encode()


def wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def new() -> Iterator[Callable[..., Project]]:
    """Makes projects whose clients are closed in the end."""
    with contextlib.ExitStack() as until:

        def make(hub: Hub, **fields: Any) -> Project:
            project = Project(hub, **fields)
            until.callback(project.sdk.close)
            return project

        yield make


@pytest.fixture
def project(hub: Hub, new: Callable[..., Project]) -> Project:
    return new(hub)


def test_a_file_is_seen_by_its_project_only(
    hub: Hub, project: Project, new: Callable[..., Project]
) -> None:
    id_ = project.add(b"secret")
    begun = project.sdk.uploads.create(
        bytes=1, filename="a", mime_type="text/plain", purpose="batch"
    )
    other = new(hub)
    assert list(other.sdk.files.list()) == []
    for ask in (other.sdk.files.retrieve, other.sdk.files.content, other.sdk.files.delete):
        with pytest.raises(openai.NotFoundError):
            ask(id_)
    for attempt in (
        lambda: other.sdk.uploads.parts.create(begun.id, data=b"x"),
        lambda: other.sdk.uploads.complete(begun.id, part_ids=["part_0"]),
        lambda: other.sdk.uploads.cancel(begun.id),
    ):
        with pytest.raises(openai.NotFoundError):
            attempt()
    assert project.sdk.files.content(id_).read() == b"secret"


def test_the_scope(hub: Hub, project: Project) -> None:
    key = project.new_key("inference", "training", "admin.read")
    with OpenAI(base_url=hub.base_url, api_key=key, max_retries=0) as plain:
        for ask in (
            lambda: plain.files.create(file=b"x", purpose="batch"),
            plain.files.list,
            lambda: plain.uploads.cancel("upload_0"),
        ):
            with pytest.raises(openai.PermissionDeniedError, match="'files'"):
                ask()


def test_the_quota_of_a_project(hub: Hub, new: Callable[..., Project]) -> None:
    project = new(hub, file_bytes=100_000)
    first = project.add(b"x" * 60_000)
    for size in (50_000, 200_000):
        with pytest.raises(openai.BadRequestError, match=r"100000 bytes .* Delete") as full:
            project.add(b"y" * size)
        assert full.value.code == "storage_quota_exceeded"
    with pytest.raises(openai.BadRequestError) as full:
        project.sdk.uploads.create(
            bytes=50_000, filename="a", mime_type="text/plain", purpose="batch"
        )
    assert full.value.code == "storage_quota_exceeded"
    wait(lambda: list(project.blobs().values()) == [60_000])
    project.sdk.files.delete(first)
    wait(lambda: not project.blobs())
    project.add(b"y" * 90_000)
    project.send("PATCH", f"projects/{project.id}", {"file_bytes": 200_000})
    project.add(b"y" * 90_000)


def test_a_body_of_unknown_length_is_held_to_the_quota(
    hub: Hub, new: Callable[..., Project]
) -> None:
    project = new(hub, file_bytes=10 * MIB)

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


def test_a_file_expires(project: Project) -> None:
    kept, ended = project.add(b"kept"), project.add(b"ended")
    project.rows(f"UPDATE file SET expires_at = now() WHERE id = '{ended}'")
    with pytest.raises(openai.NotFoundError):
        project.sdk.files.retrieve(ended)
    assert [file.id for file in project.sdk.files.list()] == [kept]
    wait(lambda: list(project.blobs().values()) == [4])
    assert project.rows(f"SELECT 1 FROM file WHERE id = '{ended}'") == []
    assert project.on_disk() >= set(project.blobs())


def test_an_upload_expires(project: Project) -> None:
    begun = project.sdk.uploads.create(
        bytes=3, filename="a", mime_type="text/plain", purpose="batch"
    )
    part = project.sdk.uploads.parts.create(begun.id, data=b"abc").id
    assert project.blobs() == {part: 3}
    spare = project.add()
    project.rows(f"UPDATE upload SET expires_at = now() WHERE id = '{begun.id}'")
    with pytest.raises(openai.ConflictError, match="expired"):
        project.sdk.uploads.complete(begun.id, part_ids=[part])
    project.sdk.files.delete(spare)
    wait(lambda: not project.blobs())
    assert part not in project.on_disk()
    spare = project.add()
    old = "now() - interval '25 hours'"
    project.rows(f"UPDATE upload SET expires_at = {old} WHERE id = '{begun.id}'")
    project.sdk.files.delete(spare)
    wait(lambda: not project.rows(f"SELECT 1 FROM upload WHERE id = '{begun.id}'"))


def test_what_is_left_of_an_upload_goes(project: Project) -> None:
    begun = project.sdk.uploads.create(
        bytes=2, filename="a", mime_type="text/plain", purpose="batch"
    )
    used, spare = [project.sdk.uploads.parts.create(begun.id, data=d).id for d in (b"ab", b"cd")]
    done = project.sdk.uploads.complete(begun.id, part_ids=[used])
    wait(lambda: project.blobs() == {used: 2})
    assert spare not in project.on_disk()
    assert done.file is not None
    project.sdk.files.delete(done.file.id)
    wait(lambda: not project.blobs())
    assert used not in project.on_disk()


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


def send_half(hub: Hub, key: str, size: int) -> http.client.HTTPConnection:
    """Half of a file of `size` bytes."""
    head = b'--XX\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    connection = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=60)
    connection.putrequest("POST", "/v1/files")
    connection.putheader("Authorization", f"Bearer {key}")
    connection.putheader("Content-Type", "multipart/form-data; boundary=XX")
    connection.putheader("Content-Length", str(size))
    connection.endheaders(head + b"x" * (size // 2))
    return connection


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


def test_changes_are_on_record(project: Project) -> None:
    id_ = project.add(b"12345", "on record.txt")
    project.sdk.files.delete(id_)
    query = "SELECT action, target, before->>'filename', after->>'bytes' FROM audit"
    rows = project.rows(f"{query} WHERE project_id = %(project)s AND target = '{id_}' ORDER BY id")
    assert rows == [
        ("file.created", id_, None, "5"),
        ("file.deleted", id_, "on record.txt", None),
    ]
    metrics = Client(project.hub.base_url, project.hub.key).send("GET", "//metrics").body.decode()
    assert 'aihub_file_bytes_total{direction="in"}' in metrics


def test_the_size_of_one_file_is_bounded_and_memory_is_flat(new: Callable[..., Project]) -> None:
    """Two clients at once send 64 MiB each, and read them."""
    with running_hub(AIHUB_FILE_LIMIT="64MiB") as hub:
        project = new(hub)
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
