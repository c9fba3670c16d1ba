"""A client of the hub that waits for receipts and reads reports."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple
from uuid import uuid4

from openai import OpenAI

from tests.hub import Hub

WITHIN = 30.0


class Reply(NamedTuple):
    status: int
    text: str
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Caller:
    """One key of the hub; its id and project are known where a test made it."""

    id = ""
    project = ""

    def __init__(self, hub: Hub, key: str) -> None:
        self.key = key
        self._hub = hub

    @cached_property
    def sdk(self) -> OpenAI:
        key = self.key
        return OpenAI(base_url=self._hub.base_url, api_key=key, admin_api_key=key, max_retries=0)

    def send(self, method: str, path: str, body: object = None) -> Reply:
        request = urllib.request.Request(
            self._hub.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.key}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                headers = {name.lower(): value for name, value in reply.headers.items()}
                return Reply(reply.status, reply.read().decode(), headers)
        except urllib.error.HTTPError as error:
            headers = {name.lower(): value for name, value in error.headers.items()}
            return Reply(error.code, error.read().decode(), headers)

    def get(self, path: str) -> Reply:
        return self.send("GET", path)

    def receipt(self, id_: str) -> dict[str, Any]:
        """Once it is in the ledger."""
        return until(
            lambda: self.get(f"/api/v1/requests/{id_}"),
            lambda reply: reply.status == 200 and not reply.json["pending"],
        ).json

    def usage(self, query: str = "") -> list[dict[str, Any]]:
        return list(self.get(f"/api/v1/usage{query}").json["data"])


def until(ask: Callable[[], Reply], met: Callable[[Reply], bool]) -> Reply:
    deadline = time.monotonic() + WITHIN
    while True:
        reply = ask()
        if met(reply):
            return reply
        assert time.monotonic() < deadline, reply
        time.sleep(0.05)


def ask(caller: Caller, hub: Hub, **more: Any) -> Any:
    return caller.sdk.chat.completions.with_raw_response.create(
        model=hub.chat_model,
        messages=[{"role": "user", "content": f"Name a fruit. {uuid4().hex}"}],
        max_tokens=8,
        **more,
    )
