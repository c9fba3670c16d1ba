"""Puts the deltas of one choice together for a reply that was asked for in one piece."""

from __future__ import annotations

import msgspec

from shared.wire.event import Choice


class FunctionDelta(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class ToolDelta(msgspec.Struct):
    index: int = 0
    id: str | None = None
    function: FunctionDelta = msgspec.field(default_factory=FunctionDelta)


class ChatDelta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolDelta] | None = None


class ChatLogprobs(msgspec.Struct):
    content: list[msgspec.Raw] | None = None


class CompletionLogprobs(msgspec.Struct):
    tokens: list[msgspec.Raw] = []
    token_logprobs: list[msgspec.Raw] = []
    top_logprobs: list[msgspec.Raw] | None = None
    text_offset: list[msgspec.Raw] = []


decode_delta = msgspec.json.Decoder(ChatDelta).decode
decode_chat_logprobs = msgspec.json.Decoder(ChatLogprobs).decode
decode_completion_logprobs = msgspec.json.Decoder(CompletionLogprobs).decode
encode = msgspec.json.encode


class Call:
    """One tool call as its pieces come in."""

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []

    def json(self) -> dict[str, object]:
        function = {"name": self.name, "arguments": "".join(self.arguments)}
        return {"id": self.id, "type": "function", "function": function}


class Assembly:
    """Text, tool calls, reasoning and logprobs of one choice, joined."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, Call] = {}
        self._chat_logprobs: list[msgspec.Raw] = []
        self._completion_logprobs: CompletionLogprobs | None = None

    def text(self, text: str) -> None:
        self._text.append(text)

    def delta(self, delta: bytes, logprobs: bytes) -> None:
        piece = decode_delta(delta)
        if piece.content:
            self._text.append(piece.content)
        if piece.reasoning_content:
            self._reasoning.append(piece.reasoning_content)
        for part in piece.tool_calls or ():
            call = self._calls.setdefault(part.index, Call())
            call.id = part.id or call.id
            call.name = part.function.name or call.name
            call.arguments.append(part.function.arguments or "")
        if logprobs:
            self._add_logprobs(logprobs)

    def choice(self, reason: str) -> Choice:
        calls = [self._calls[index].json() for index in sorted(self._calls)]
        text = "".join(self._text)
        return Choice(
            None if calls and not text else text,
            reason,
            encode(calls) if calls else b"",
            self._logprobs(),
            "".join(self._reasoning) or None,
        )

    def _add_logprobs(self, logprobs: bytes) -> None:
        legacy = decode_completion_logprobs(logprobs)
        if not legacy.tokens:
            self._chat_logprobs += decode_chat_logprobs(logprobs).content or []
            return
        whole = self._completion_logprobs
        if whole is None:
            self._completion_logprobs = legacy
            return
        whole.tokens += legacy.tokens
        whole.token_logprobs += legacy.token_logprobs
        whole.text_offset += legacy.text_offset
        if legacy.top_logprobs is not None:
            whole.top_logprobs = [*(whole.top_logprobs or []), *legacy.top_logprobs]

    def _logprobs(self) -> bytes:
        if self._completion_logprobs is not None:
            return encode(self._completion_logprobs)
        if self._chat_logprobs:
            return encode({"content": self._chat_logprobs, "refusal": None})
        return b""
