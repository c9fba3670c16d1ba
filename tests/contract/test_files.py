"""OpenAI's own client keeps files in the hub, and what comes back is of the published shape."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.contract import schema
from tests.contract.client import Client
from tests.hub import Hub

LINES = b'{"messages": []}\n' * 50
EXPIRY: Any = {"anchor": "created_at", "seconds": 3600}


@pytest.fixture
def client(hub: Hub) -> Client:
    return Client(hub.base_url, hub.key)


@pytest.fixture
def sdk(hub: Hub) -> Iterator[OpenAI]:
    with OpenAI(base_url=hub.base_url, api_key=hub.key, max_retries=0) as client:
        yield client


def test_a_file_from_beginning_to_end(sdk: OpenAI, client: Client) -> None:
    made = sdk.files.create(file=("träin.jsonl", LINES), purpose="fine-tune", expires_after=EXPIRY)
    assert (made.filename, made.bytes, made.purpose) == ("träin.jsonl", len(LINES), "fine-tune")
    assert made.expires_at == made.created_at + 3600
    schema.check("OpenAIFile", client.send("GET", f"/files/{made.id}").json)
    assert sdk.files.retrieve(made.id) == made
    assert sdk.files.content(made.id).read() == LINES
    assert sdk.files.wait_for_processing(made.id) == made
    gone = client.send("DELETE", f"/files/{made.id}").json
    schema.check("DeleteFileResponse", gone)
    assert gone == {"id": made.id, "object": "file", "deleted": True}
    for ask in (sdk.files.retrieve, sdk.files.content, sdk.files.delete):
        with pytest.raises(openai.NotFoundError):
            ask(made.id)


@pytest.mark.parametrize(
    "purpose", ["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
)
def test_every_purpose(sdk: OpenAI, purpose: Any) -> None:
    made = sdk.files.create(file=io.BytesIO(b"{}"), purpose=purpose)
    assert (made.purpose, made.status) == (purpose, "processed")
    sdk.files.delete(made.id)


def test_lists_are_paged(sdk: OpenAI, client: Client) -> None:
    made = [sdk.files.create(file=(f"{n}.txt", b"x"), purpose="vision").id for n in range(5)]
    schema.check("ListFilesResponse", client.send("GET", "/files?purpose=vision").json)
    listed = [file.id for file in sdk.files.list(purpose="vision", limit=2)]
    assert listed == made[::-1]
    listed = [file.id for file in sdk.files.list(purpose="vision", limit=2, order="asc")]
    assert listed == made
    page = sdk.files.list(purpose="vision", after=made[1], order="asc", limit=1)
    assert ([file.id for file in page.data], page.has_more) == ([made[2]], True)
    for id_ in made:
        sdk.files.delete(id_)
    empty = client.send("GET", "/files?purpose=vision").json
    schema.check("ListFilesResponse", empty)
    assert (empty["data"], empty["has_more"]) == ([], False)


def test_an_upload_in_parts(sdk: OpenAI, client: Client) -> None:
    first, second = b"a" * 100_000, b"b" * 50_000
    body: Any = {"filename": "big.bin", "mime_type": "text/plain", "purpose": "user_data"}
    begun = sdk.uploads.create(bytes=len(first + second), expires_after=EXPIRY, **body)
    assert (begun.status, begun.file) == ("pending", None)
    assert begun.expires_at == begun.created_at + 3600
    parts = [sdk.uploads.parts.create(begun.id, data=data) for data in (second, first)]
    assert all(part.upload_id == begun.id for part in parts)
    order = [parts[1].id, parts[0].id]
    digest = hashlib.md5(first + second).hexdigest()
    with pytest.raises(openai.BadRequestError) as wrong:
        sdk.uploads.complete(begun.id, part_ids=order[::-1], md5=digest)
    assert wrong.value.param == "md5"
    done = sdk.uploads.complete(begun.id, part_ids=order, md5=digest)
    assert done.file is not None
    assert done.status == "completed"
    assert done.file.expires_at == done.file.created_at + 3600
    assert sdk.files.content(done.file.id).read() == first + second
    assert sdk.uploads.complete(begun.id, part_ids=order) == done
    with pytest.raises(openai.ConflictError):
        sdk.uploads.complete(begun.id, part_ids=order[:1])
    for late in (
        lambda: sdk.uploads.parts.create(begun.id, data=b"x"),
        lambda: sdk.uploads.cancel(begun.id),
    ):
        with pytest.raises(openai.ConflictError):
            late()
    sdk.files.delete(done.file.id)


def test_uploads_are_of_the_published_shape(sdk: OpenAI, client: Client) -> None:
    body = b'{"bytes": 3, "filename": "a", "mime_type": "text/plain", "purpose": "batch"}'
    begun = client.send("POST", "/uploads", body).json
    schema.check("Upload", begun)
    part = sdk.uploads.parts.with_raw_response.create(begun["id"], data=b"abc")
    schema.check("UploadPart", part.http_response.json())
    path = f"/uploads/{begun['id']}"
    chosen = f'{{"part_ids": ["{part.parse().id}"]}}'.encode()
    done = client.send("POST", f"{path}/complete", chosen).json
    schema.check("Upload", done)
    schema.check("OpenAIFile", done["file"])
    other = client.send("POST", "/uploads", body).json
    cancelled = client.send("POST", f"/uploads/{other['id']}/cancel", b"{}").json
    schema.check("Upload", cancelled)
    assert cancelled["status"] == "cancelled"


def test_the_helper_for_large_files(sdk: OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    path.write_bytes(b"line\n" * 40_000)
    done = sdk.uploads.upload_file_chunked(
        file=path,
        mime_type="text/plain",
        purpose="assistants",
        part_size=64_000,
        md5=hashlib.md5(path.read_bytes()).hexdigest(),
    )
    assert done.file is not None
    assert (done.file.filename, done.file.bytes) == ("large.txt", 200_000)
    assert sdk.files.content(done.file.id).read() == path.read_bytes()
    sdk.files.delete(done.file.id)


async def test_the_asynchronous_client(hub: Hub) -> None:
    async with AsyncOpenAI(base_url=hub.base_url, api_key=hub.key, max_retries=0) as client:
        made = await client.files.create(file=("a.jsonl", LINES), purpose="evals")
        async with client.files.with_streaming_response.content(made.id) as reply:
            assert b"".join([piece async for piece in reply.iter_bytes(100)]) == LINES
        assert made.id in [file.id async for file in client.files.list(limit=1)]
        assert (await client.files.delete(made.id)).deleted


UPLOAD = {"bytes": 3, "filename": "a", "mime_type": "text/plain", "purpose": "batch"}


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"purpose": "fun"}, "invalid_value", "purpose"),
        ({"purpose": "batch_output"}, "invalid_value", "purpose"),
        ({"purpose": openai.omit}, "missing_required_parameter", "purpose"),
        ({"file": openai.omit}, "missing_required_parameter", "file"),
        ({"file": ("a.txt", b"")}, "invalid_value", "file"),
        ({"file": ("..", b"x")}, "invalid_value", "file"),
        ({"expires_after": {"anchor": "created_at"}}, None, "expires_after[seconds]"),
        ({"expires_after": {"anchor": "now", "seconds": 3600}}, None, "expires_after[anchor]"),
        ({"expires_after": {"anchor": "created_at", "seconds": 1}}, None, "expires_after[seconds]"),
        ({"extra_body": {"colour": "red"}}, "unsupported_parameter", "colour"),
    ],
)
def test_a_wrong_file(sdk: OpenAI, fields: Any, code: str | None, param: str | None) -> None:
    body: Any = {"file": ("a.txt", b"x"), "purpose": "batch", **fields}
    before = [file.id for file in sdk.files.list()]
    with pytest.raises(openai.BadRequestError) as wrong:
        sdk.files.create(**body)
    assert wrong.value.param == param
    assert code in (None, wrong.value.code)
    assert [file.id for file in sdk.files.list()] == before


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"bytes": 0}, "invalid_value", "bytes"),
        ({"bytes": "3"}, "invalid_type", "bytes"),
        ({"bytes": (8 << 30) + 1}, "invalid_value", "bytes"),
        ({"filename": ""}, "invalid_value", "filename"),
        ({"filename": "a/"}, "invalid_value", "filename"),
        ({"purpose": "fun"}, "invalid_value", "purpose"),
        ({"expires_after": {"anchor": "created_at"}}, None, "expires_after.seconds"),
        ({"colour": "red"}, "unsupported_parameter", "colour"),
    ],
)
def test_a_wrong_upload(sdk: OpenAI, fields: Any, code: str | None, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as wrong:
        sdk.post("/uploads", body={**UPLOAD, **fields}, cast_to=object)
    assert wrong.value.param == param
    assert code in (None, wrong.value.code)


def test_wrong_parts(sdk: OpenAI) -> None:
    begun = sdk.uploads.create(**UPLOAD)  # type: ignore[arg-type]
    part = sdk.uploads.parts.create(begun.id, data=b"ab").id
    for chosen, param in (
        ([part], "part_ids"),
        ([part, part], "part_ids[1]"),
        (["part_0"], "part_ids[0]"),
        ([], "part_ids"),
    ):
        with pytest.raises(openai.BadRequestError) as wrong:
            sdk.uploads.complete(begun.id, part_ids=chosen)
        assert wrong.value.param == param
    with pytest.raises(openai.BadRequestError) as wrong:
        sdk.uploads.complete(begun.id, part_ids=[part], md5="abc")
    assert wrong.value.param == "md5"
    with pytest.raises(openai.BadRequestError) as wrong:
        sdk.uploads.parts.create(begun.id, data=b"more than twice")
    assert wrong.value.param == "data"
    assert sdk.uploads.cancel(begun.id).status == "cancelled"
    with pytest.raises(openai.NotFoundError):
        sdk.uploads.complete("upload_0", part_ids=[part])


@pytest.mark.parametrize(
    ("method", "path", "status", "param"),
    [
        ("GET", "/files/file-0", 404, "id"),
        ("GET", "/files/%00", 404, "id"),
        ("GET", "/files/file-0/content", 404, "id"),
        ("GET", "/files/a/b/c", 404, None),
        ("GET", "/filesystem", 404, None),
        ("POST", "/uploads2", 404, None),
        ("GET", "/files?limit=0", 400, "limit"),
        ("GET", "/files?limit=10001", 400, "limit"),
        ("GET", "/files?order=up", 400, "order"),
        ("GET", "/files?colour=red", 400, "colour"),
        ("GET", "/files?after=%00", 400, "after"),
        ("PUT", "/files", 405, None),
        ("POST", "/files/file-0", 405, None),
        ("DELETE", "/files", 405, None),
        ("POST", "/files", 400, None),
        ("GET", "/uploads", 405, None),
        ("POST", "/uploads/upload_0/nothing", 404, None),
        ("POST", "/uploads/upload_0/cancel", 404, "id"),
        ("POST", "/uploads/upload_0/parts", 404, "id"),
    ],
)
def test_wrong_paths_and_queries(
    client: Client, method: str, path: str, status: int, param: str | None
) -> None:
    reply = client.send(method, path, b"{}" if method == "POST" else None)
    assert (reply.status, reply.error["param"]) == (status, param)
