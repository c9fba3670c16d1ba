"""A client that hides nothing: the bytes of a reply, checked against the published schema."""

from __future__ import annotations

import http.client
import json
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.contract import schema

TIMEOUT = 120.0
TABLE = {
    "/chat/completions": ("CreateChatCompletionResponse", "CreateChatCompletionStreamResponse"),
    "/completions": ("CreateCompletionResponse", "CreateCompletionChunk"),
    "/embeddings": ("CreateEmbeddingResponse", ""),
}


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json["error"]
        return found


class Client:
    """`base_url` ends in /v1."""

    def __init__(self, base_url: str, key: str | None) -> None:
        self._url = urlsplit(base_url)
        self._key = key

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """One request below base_url; a path that starts with two slashes is below the host."""
        target = path[1:] if path.startswith("//") else self._url.path + path
        own = {"Content-Type": "application/json"}
        if self._key is not None:
            own["Authorization"] = f"Bearer {self._key}"
        connection = http.client.HTTPConnection(
            self._url.hostname or "", self._url.port, timeout=TIMEOUT
        )
        try:
            connection.request(method, target, body, {**own, **(headers or {})})
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            reply = Reply(answer.status, found, answer.read())
        finally:
            connection.close()
        assert reply.headers["x-request-id"].startswith("req_")
        assert reply.headers["openai-version"] == "2020-10-01"
        assert reply.headers["openai-processing-ms"].isdigit()
        if reply.status >= 400 and method != "HEAD" and "/health/" not in target:
            schema.check("ErrorResponse", reply.json)
        return reply

    def post(self, path: str, **fields: Any) -> Reply:
        """Sends JSON and validates what comes back, chunk by chunk if it is a stream."""
        reply = self.send("POST", path, json.dumps(fields).encode())
        if reply.status == 200:
            whole, chunk = TABLE[path]
            if fields.get("stream"):
                for event in events(reply):
                    schema.check(chunk, event)
            else:
                schema.check(whole, reply.json)
        return reply


def events(reply: Reply) -> list[dict[str, Any]]:
    """The chunks of a stream that ended well."""
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    blocks = reply.body.decode().split("\n\n")
    assert blocks.pop() == ""
    data = [block for block in blocks if not block.startswith(":")]
    assert all(block.startswith("data: ") and "\n" not in block for block in data)
    assert data.pop() == "data: [DONE]"
    return [json.loads(block.removeprefix("data: ")) for block in data]
