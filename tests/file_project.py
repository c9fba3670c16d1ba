"""A project with files in a hub, and what is on the hub's disk of them."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Callable
from typing import Any

import psycopg
from openai import OpenAI

from shared.settings import Settings
from tests.contract.client import Client
from tests.hub import Hub

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
