"""An administrator who orders models and reads what became of the orders."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.contract.client import Client, Reply
from tests.hub import Hub


class Desk:
    """An administrator."""

    def __init__(self, hub: Hub) -> None:
        self._client = Client(hub.base_url, hub.key)
        self._began = ""

    def begin(self) -> None:
        """Later rows of the audit log are this administrator's."""
        newest = self._client.send("GET", "//api/v1/admin/audit?limit=1").json["data"]
        self._began = newest[0]["id"] if newest else ""

    def order(self, what: str, model: str | None = None, **fields: Any) -> Reply:
        body = {} if model is None else {"model": model}
        path = f"//api/v1/models/{what}"
        return self._client.send("POST", path, json.dumps({**body, **fields}).encode())

    def load(self, model: str, **fields: Any) -> dict[str, Any]:
        reply = self.order("load", model, wait=True, **fields)
        assert reply.status == 200, reply.body
        found: dict[str, Any] = reply.json
        return found

    def status(self, query: str = "") -> dict[str, Any]:
        reply = self._client.send("GET", f"//api/v1/models/status{query}")
        assert reply.status == 200, reply.body
        found: dict[str, Any] = reply.json
        return found

    def model(self, name: str) -> dict[str, Any]:
        [worker] = self.status(f"?model={name}")["workers"]
        [found] = worker["models"]
        assert isinstance(found, dict)
        return found

    def until(self, name: str, **wanted: Any) -> dict[str, Any]:
        """The status of a model as soon as it has these values."""
        deadline = time.monotonic() + 30
        while True:
            found = self.model(name)
            if {key: found[key] for key in wanted} == wanted:
                return found
            assert time.monotonic() < deadline, found

    def audit(self, model: str) -> list[dict[str, Any]]:
        """The rows of orders for a model since this administrator came, oldest first."""
        path = f"//api/v1/admin/audit?limit=100&resource_ids={model}"
        rows: list[dict[str, Any]] = self._client.send("GET", path).json["data"][::-1]
        return [row for row in rows if row["id"] > self._began]

    def empty(self) -> None:
        for name in ("first", "second", "adapted"):
            assert self.order("unload", name, wait=True).status == 200
