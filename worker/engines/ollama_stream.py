"""The lines of Ollama's stream, given to a sink."""

from __future__ import annotations

import msgspec

from shared.errors import EngineFailed
from shared.wire.event import Usage
from worker.engines.base import EngineLost, Sink
from worker.engines.chunks import ContentDelta, ReasoningDelta
from worker.engines.logprobs import Logprobs
from worker.engines.ollama_refusal import from_line
from worker.engines.refusal import Subject
from worker.engines.toolcalls import MOST_CALLS, CallReader, CallsDelta, opening

NOTHING = msgspec.Raw(b"")
IDLE = ("load", "unload")
"""Reasons of a reply that generated nothing because nothing was asked."""


class Function(msgspec.Struct):
    name: str = ""
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class Call(msgspec.Struct):
    function: Function
    id: str = ""


class Message(msgspec.Struct):
    content: str = ""
    thinking: str = ""
    tool_calls: list[Call] = []


class Line(msgspec.Struct):
    """/api/chat sends `message`; /api/generate sends `response` and `thinking`."""

    message: Message | None = None
    response: str = ""
    thinking: str = ""
    done: bool = False
    done_reason: str = "stop"
    prompt_eval_count: int = 0
    eval_count: int = 0
    logprobs: msgspec.Raw = NOTHING
    error: str | None = None


decode = msgspec.json.Decoder(Line).decode
encode = msgspec.json.Encoder().encode


class LineSink:
    """Gives one streamed choice to `sink`; afterwards `close` tells its usage."""

    def __init__(
        self,
        sink: Sink,
        *,
        calls: CallReader | None = None,
        logprobs: Logprobs | None = None,
        subject: Subject = "messages",
    ) -> None:
        self._sink = sink
        self._calls = calls
        self._logprobs = logprobs
        self._subject = subject
        self._plain = calls is None and logprobs is None
        self._called = 0
        self._usage: Usage | None = None

    def take(self, data: bytes) -> None:
        """One line; raises EngineLost when it is none of Ollama's, HubError when it is an error."""
        try:
            line = decode(data)
        except msgspec.MsgspecError as error:
            raise EngineLost(f"the engine sent a line of another shape: {error}") from error
        message = line.message
        text = line.response if message is None else message.content
        if self._plain:
            if text:
                self._sink.text(text)
        elif text or line.logprobs != NOTHING:
            self._shaped(text, line.logprobs)
        thinking = line.thinking if message is None else message.thinking
        if thinking:
            self._sink.delta(None, encode(ReasoningDelta(thinking)), b"")
        if message is not None and message.tool_calls:
            self._call(message.tool_calls)
        if line.done:
            self._end(line)
        if line.error is not None:
            raise from_line(line.error, self._subject)

    def close(self) -> Usage:
        """The stream is over; raises EngineLost when its choice is not."""
        if self._usage is None:
            raise EngineLost("the engine's stream ended in the middle of the choice")
        return self._usage

    def _shaped(self, text: str, logprobs: msgspec.Raw) -> None:
        if self._calls is not None:
            for raw, delta in self._calls.feed(text):
                self._sink.delta(raw, encode(delta), b"")
            return
        shaped = b""
        if self._logprobs is not None and logprobs != NOTHING:
            shaped = self._logprobs.shape(msgspec.Raw(b'{"content":%b}' % bytes(logprobs)))
        if shaped:
            self._sink.delta(text, encode(ContentDelta(text)), shaped)
        elif text:
            self._sink.text(text)

    def _call(self, calls: list[Call]) -> None:
        if self._called + len(calls) > MOST_CALLS:
            raise EngineFailed("The engine made too many tool calls at once.")
        fragments = []
        for call in calls:
            arguments = bytes(call.function.arguments).decode()
            fragments.append(opening(self._called, call.function.name, arguments, call.id))
            self._called += 1
        self._sink.delta(None, encode(CallsDelta(fragments)), b"")

    def _end(self, line: Line) -> None:
        if line.done_reason in IDLE:
            raise EngineLost(f"the engine did not generate: {line.done_reason}")
        reason = line.done_reason if line.done_reason in ("stop", "length") else "stop"
        if reason == "stop" and (self._calls is not None or self._called):
            reason = "tool_calls"
        self._usage = Usage(line.prompt_eval_count, line.eval_count)
        self._sink.finish(reason)
