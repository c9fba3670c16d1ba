"""Reply items into server-sent events: one byte template per stream, only the content escaped."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from shared.wire.event import Delta, Done, Failed, Finish, Item, Text, Usage
from shared.wire.openai import error
from shared.wire.openai.usage import from_event

END = b"data: [DONE]\n\n"
WAITING = b": waiting\n\n"
"""A comment: keeps clients and proxies from giving up, and every client ignores it."""

encode = msgspec.json.Encoder().encode


def failure(failed: Failed) -> bytes:
    """An error after the first byte; the stream ends behind it."""
    return b"data: " + error.encode(failed) + b"\n\n"


class Head(NamedTuple):
    """What every chunk of a stream repeats. `created` is epoch seconds."""

    id: str
    created: int
    model: str
    fingerprint: str
    tier: str | None = None

    def json(self, kind: str) -> bytes:
        """The start of a chunk, up to and with `"choices":[`."""
        fields = {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }
        if self.tier is not None:
            fields["service_tier"] = self.tier
        return b"data: " + encode(fields)[:-1] + b',"choices":['


class Tape(Protocol):
    def add(self, items: Sequence[Item]) -> None: ...


class Chunks(ABC):
    """One stream. After `render`, `usage` or `failed` is set if the stream has ended."""

    def __init__(self, start: bytes, *, include_usage: bool) -> None:
        self._start = start
        self._include_usage = include_usage
        self._tail = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"
        self.usage: Usage | None = None
        self.failed: Failed | None = None
        self.tape: Tape | None = None
        """What the items go to besides."""

    def render(self, items: Sequence[Item]) -> bytes:
        """The events of these items, joined."""
        if self.tape is not None:
            self.tape.add(items)
        parts: list[bytes] = []
        for item in items:
            if isinstance(item, Text):
                self.text(item, parts)
            elif isinstance(item, Delta):
                self.delta(item, parts)
            elif isinstance(item, Finish):
                self.finish(item, parts)
            elif isinstance(item, Done):
                self.usage = item.usage
                self._end(parts)
            elif isinstance(item, Failed):
                self.failed = item
        return b"".join(parts)

    @abstractmethod
    def text(self, item: Text, parts: list[bytes]) -> None:
        """More content of a choice."""

    @abstractmethod
    def delta(self, item: Delta, parts: list[bytes]) -> None:
        """Tool calls, reasoning, or content with logprobs."""

    @abstractmethod
    def finish(self, item: Finish, parts: list[bytes]) -> None:
        """The end of a choice."""

    def _end(self, parts: list[bytes]) -> None:
        if self._include_usage and self.usage is not None:
            parts += (self._start, b'],"usage":', encode(from_event(self.usage)), b"}\n\n")
        parts.append(END)


class ChatChunks(Chunks):
    """chat.completion.chunk objects.

    The first content is preceded by the role of every choice, in order: SDKs that build the
    whole completion up put choice 0 before the others.
    """

    def __init__(self, head: Head, *, include_usage: bool, choices: int = 1) -> None:
        super().__init__(head.json("chat.completion.chunk"), include_usage=include_usage)
        self._choices = choices
        self._heads: list[bytes] = []
        self._text_tail = b'},"logprobs":null,"finish_reason":null}' + self._tail

    def text(self, item: Text, parts: list[bytes]) -> None:
        head = (self._heads or self._open(parts))[item.choice]
        parts += (head, b'{"content":', encode(item.text), self._text_tail)

    def delta(self, item: Delta, parts: list[bytes]) -> None:
        head = (self._heads or self._open(parts))[item.choice]
        logprobs = item.logprobs or b"null"
        parts += (head, item.delta, b',"logprobs":', logprobs, b',"finish_reason":null}')
        parts.append(self._tail)

    def finish(self, item: Finish, parts: list[bytes]) -> None:
        head = (self._heads or self._open(parts))[item.choice]
        parts += (head, b'{},"logprobs":null,"finish_reason":', encode(item.reason), b"}")
        parts.append(self._tail)

    def _open(self, parts: list[bytes]) -> list[bytes]:
        for choice in range(self._choices):
            head = self._start + b'{"index":%d,"delta":' % choice
            self._heads.append(head)
            parts += (head, b'{"role":"assistant","content":"","refusal":null', self._text_tail)
        return self._heads


class CompletionChunks(Chunks):
    """text_completion objects."""

    def __init__(self, head: Head, *, include_usage: bool) -> None:
        super().__init__(head.json("text_completion"), include_usage=include_usage)

    def text(self, item: Text, parts: list[bytes]) -> None:
        self._chunk(item.choice, item.text, b"null", b"null", parts)

    def delta(self, item: Delta, parts: list[bytes]) -> None:
        self._chunk(item.choice, item.raw or "", item.logprobs or b"null", b"null", parts)

    def finish(self, item: Finish, parts: list[bytes]) -> None:
        self._chunk(item.choice, "", b"null", encode(item.reason), parts)

    def _chunk(
        self, choice: int, text: str, logprobs: bytes, reason: bytes, parts: list[bytes]
    ) -> None:
        parts += (
            self._start,
            b'{"text":',
            encode(text),
            b',"index":%d,"logprobs":' % choice,
            logprobs,
            b',"finish_reason":',
            reason,
            b"}",
            self._tail,
        )
