"""A file on its way to a hub: in one request, or in parts when it is large."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

import msgspec

from deploy.admin import Fields
from deploy.stream import ApiError, Client

LARGE = 64 << 20
"""Bytes of a part; what has more is sent in parts."""
PIECE = 1 << 20
QUOTED = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})


class Sender:
    def __init__(self, client: Client, name: str, source: BinaryIO) -> None:
        """`name` is what the file is to be called."""
        self._client = client
        self._name = name
        self._source = source
        self._digest = hashlib.md5(usedforsecurity=False)

    def send(self, size: int, purpose: str, seconds: int | None) -> str:
        """The id of the file; raises ApiError, and OSError when the source cannot be read."""
        expiry: Fields = {} if seconds is None else {"anchor": "created_at", "seconds": seconds}
        if size > LARGE:
            return self._in_parts(size, purpose, expiry)
        fields = {"purpose": purpose}
        fields.update({f"expires_after[{key}]": str(value) for key, value in expiry.items()})
        return self._post("/files", fields, "file", size)

    def _in_parts(self, size: int, purpose: str, expiry: Fields) -> str:
        asked: Fields = {"bytes": size, "filename": self._name, "purpose": purpose}
        asked["mime_type"] = "application/octet-stream"
        if expiry:
            asked["expires_after"] = expiry
        upload = decoded(self._client.send("POST", "/uploads", asked))["id"]
        path = f"/uploads/{upload}"
        parts = [self._post(f"{path}/parts", {}, "data", part) for part in sizes(size)]
        done = {"part_ids": parts, "md5": self._digest.hexdigest()}
        made = decoded(self._client.send("POST", f"{path}/complete", done))
        return str(made["file"]["id"])

    def _post(self, path: str, fields: dict[str, str], field: str, size: int) -> str:
        """The next `size` bytes of the source as a form; the id in the answer."""
        boundary = os.urandom(16).hex()
        head = "".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
            for key, value in fields.items()
        )
        disposition = f'form-data; name="{field}"; filename="{self._name.translate(QUOTED)}"'
        opening = f"{head}--{boundary}\r\nContent-Disposition: {disposition}\r\n\r\n".encode()
        closing = f"\r\n--{boundary}--\r\n".encode()
        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(opening) + size + len(closing)),
        }
        body = chain((opening,), self._pieces(size), (closing,))
        with self._client.exchange("POST", path, body, headers) as reply:
            return str(decoded(reply.read())["id"])

    def _pieces(self, left: int) -> Iterator[bytes]:
        while left:
            data = self._source.read(min(PIECE, left))
            if not data:
                raise ApiError(f"{self._name} became shorter while it was sent")
            self._digest.update(data)
            left -= len(data)
            yield data


def sizes(size: int) -> Iterator[int]:
    for start in range(0, size, LARGE):
        yield min(LARGE, size - start)


def decoded(body: bytes) -> Fields:
    try:
        return msgspec.json.decode(body, type=Fields)
    except msgspec.DecodeError as error:
        raise ApiError(f"the server answers with no JSON: {error}") from error
