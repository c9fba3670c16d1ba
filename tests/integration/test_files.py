"""Files over a whole hub: whose they are, how many, how they end, and what stays of them."""

from __future__ import annotations

from collections.abc import Callable

import openai
import pytest
from openai import OpenAI

from tests.contract.client import Client
from tests.file_project import Project, wait
from tests.hub import Hub


def test_a_file_is_seen_by_its_project_only(
    hub: Hub, project: Project, new_project: Callable[..., Project]
) -> None:
    id_ = project.add(b"secret")
    begun = project.sdk.uploads.create(
        bytes=1, filename="a", mime_type="text/plain", purpose="batch"
    )
    other = new_project(hub)
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


def test_the_quota_of_a_project(hub: Hub, new_project: Callable[..., Project]) -> None:
    project = new_project(hub, file_bytes=100_000)
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
