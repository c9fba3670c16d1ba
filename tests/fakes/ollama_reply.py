"""Answers of the stand-in for `ollama serve`."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime

from tests.fakes.ollama_memory import Body


def now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


class Reply:
    """The answer to one request: one JSON object, or a stream of lines."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._begun = False

    def whole(self, status: int, answer: Body) -> None:
        body = json.dumps(answer).encode()
        self._head(status, "application/json; charset=utf-8", f"Content-Length: {len(body)}")
        self._writer.write(body)

    def line(self, answer: Body) -> None:
        if not self._begun:
            self._begun = True
            self._head(200, "application/x-ndjson", "Transfer-Encoding: chunked")
        data = json.dumps(answer, ensure_ascii=False).encode() + b"\n"
        self._writer.write(b"%x\r\n%b\r\n" % (len(data), data))

    def fail(self, status: int, message: str) -> None:
        """Before the first line a status, behind it one more line, as Ollama does."""
        if self._begun:
            self.line({"error": message})
            self.end()
        else:
            self.whole(status, {"error": message})

    def end(self) -> None:
        self._writer.write(b"0\r\n\r\n")

    def _head(self, status: int, kind: str, framing: str) -> None:
        head = f"HTTP/1.1 {status} -\r\nContent-Type: {kind}\r\n{framing}\r\nConnection: close\r\n"
        self._writer.write(head.encode() + b"\r\n")
