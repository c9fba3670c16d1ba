"""A client of the administrators' API."""

from __future__ import annotations

import json
from typing import Any

import psycopg

from shared.settings import Settings
from tests.contract.client import Client, Reply
from tests.hub import Hub

TABLES = ("organisation", "project", "app_user", "membership", "api_key", "budget", "model_price")


class Desk:
    """A client with a key, and a look into the hub's database."""

    def __init__(self, hub: Hub, key: str | None = None) -> None:
        self.hub = hub
        self.client = Client(hub.base_url, key or hub.key)

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        raw = None if body is None else json.dumps(body).encode()
        target = path if path.startswith("/v1") else f"/api/v1/admin{path}"
        return self.client.send(method, f"/{target}", raw, headers)

    def ok(self, method: str, path: str, body: Any = None) -> Any:
        reply = self.send(method, path, body)
        assert reply.status == 200, reply.body
        return reply.json

    def key(self, **fields: Any) -> Any:
        return self.ok("POST", "/keys", {"name": "test", **fields})

    def like(self, key: str) -> Desk:
        return Desk(self.hub, key)

    def rows(self, query: str) -> list[Any]:
        with self._connect() as connection:
            return connection.execute(query).fetchall()  # type: ignore[arg-type]

    def execute(self, statement: str) -> None:
        with self._connect() as connection:
            connection.execute(statement)  # type: ignore[arg-type]

    def _connect(self) -> psycopg.Connection:
        sockets = Settings(home=str(self.hub.home)).sockets
        return psycopg.connect(f"postgresql://aihub@/aihub?host={sockets}")

    def state(self) -> list[Any]:
        """Every row an administrator can change, and the number of audit rows."""
        tables = [self.rows(f"SELECT t::text FROM {name} t ORDER BY 1") for name in TABLES]
        return [*tables, self.rows("SELECT count(*) FROM audit")]
