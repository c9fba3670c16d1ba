"""A small client of the OpenAI wire over the standard library: models, and one streamed chat."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec

CONNECT_TIMEOUT = 600.0
"""A request may wait in a queue that long."""
LARGEST_REPLY = 16 * 1024 * 1024


Headers = Mapping[str, str]


class ApiError(Exception):
    """What the server or the connection said, in a reader's words."""


class Fault(msgspec.Struct):
    message: str = "unknown error"
    code: str | int | None = None


class Refusal(msgspec.Struct):
    error: Fault


class Delta(msgspec.Struct):
    content: str | None = None


class Choice(msgspec.Struct):
    delta: Delta = msgspec.field(default_factory=Delta)


class Chunk(msgspec.Struct):
    choices: list[Choice] = []
    error: Fault | None = None


class Named(msgspec.Struct):
    id: str


class Models(msgspec.Struct):
    data: list[Named]


class Client:
    """One server. Every request has a connection of its own, so an abandoned one is cancelled."""

    def __init__(self, base_url: str, key: str | None, timeout: float = CONNECT_TIMEOUT) -> None:
        """`timeout`: seconds without a byte. Raises ApiError for a base_url that is not one."""
        self._timeout = timeout
        self.base_url = base_url.rstrip("/")
        self._parts = urlsplit(self.base_url)
        if self._parts.scheme not in ("http", "https") or not self._parts.hostname:
            raise ApiError(f"{base_url!r} is no base_url such as http://127.0.0.1:8000/v1")
        self._headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"

    def models(self) -> list[str]:
        """The names the server lists; raises ApiError."""
        connection = self._connect()
        try:
            body = self._request(connection, "GET", "/models", None).read(LARGEST_REPLY)
            return [model.id for model in msgspec.json.decode(body, type=Models).data]
        except msgspec.DecodeError as error:
            raise ApiError(f"{self.base_url}/models is not a list of models: {error}") from error
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from error
        finally:
            connection.close()

    def send(self, method: str, path: str, body: Any = None) -> bytes:
        """The whole reply to one request; raises ApiError."""
        connection = self._connect()
        try:
            return self._request(connection, method, path, body).read(LARGEST_REPLY)
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from error
        finally:
            connection.close()

    @contextmanager
    def exchange(
        self, method: str, path: str, content: Iterable[bytes] = (), headers: Headers | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """One request whose body is sent piece by piece, and its reply, to be read as it comes.

        `headers` say what the body is and how long. Raises ApiError, for what is read inside, too.
        """
        connection = self._connect()
        try:
            try:
                all_headers = {**self._headers, **(headers or {})}
                connection.request(method, self._parts.path + path, content, all_headers)
            except (BrokenPipeError, ConnectionResetError):
                # A server that refuses stops reading; what it says is there already.
                if connection.sock is None:
                    raise
            reply = connection.getresponse()
            if reply.status >= 300:
                raise ApiError(explain(reply.status, reply.read(LARGEST_REPLY)))
            yield reply
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from error
        finally:
            connection.close()

    def chat(self, model: str, messages: list[dict[str, str]]) -> Generator[str, None, None]:
        """The answer piece by piece; raises ApiError. Closing the iterator cancels the answer."""
        connection = self._connect()
        body = {"model": model, "messages": messages, "stream": True}
        try:
            reply = self._request(connection, "POST", "/chat/completions", body)
            while (line := reply.readline(LARGEST_REPLY)) != b"":
                name, _, value = line.partition(b":")
                if name == b"data" and value.strip() == b"[DONE]":
                    return
                if name == b"data":
                    yield from pieces(value)
            raise ApiError("the answer broke off: the server closed the stream before its end")
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from error
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=self._timeout)
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(host, port, timeout=self._timeout, context=context)

    def _request(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: Any
    ) -> http.client.HTTPResponse:
        content = None if body is None else json.dumps(body).encode()
        connection.request(method, self._parts.path + path, content, self._headers)
        reply = connection.getresponse()
        if reply.status >= 300:
            raise ApiError(explain(reply.status, reply.read(LARGEST_REPLY)))
        return reply

    def _lost(self, error: Exception) -> ApiError:
        return ApiError(f"{self.base_url} does not answer: {error or type(error).__name__}")


def pieces(value: bytes) -> Iterator[str]:
    """The text of one SSE data line; an error event is raised."""
    try:
        chunk = msgspec.json.decode(value, type=Chunk)
    except msgspec.DecodeError as error:
        raise ApiError(f"the server sent what is no chat chunk: {error}") from error
    if chunk.error is not None:
        raise ApiError(words(chunk.error))
    for choice in chunk.choices:
        if choice.delta.content:
            yield choice.delta.content


def explain(status: int, body: bytes) -> str:
    try:
        return f"{words(msgspec.json.decode(body, type=Refusal).error)} (HTTP {status})"
    except msgspec.DecodeError:
        return f"HTTP {status}: {body[:500].decode('utf-8', 'replace').strip()}"


def words(fault: Fault) -> str:
    return fault.message if fault.code is None else f"{fault.message} [{fault.code}]"
