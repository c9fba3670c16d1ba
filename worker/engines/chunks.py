"""What an engine's stream says, given to a sink.

The common chunk, a piece of content and nothing else, takes the short way: one decode, one call.
"""

from __future__ import annotations

import msgspec

from shared.wire.event import Usage
from worker.engines.base import EngineLost, Sink
from worker.engines.logprobs import Logprobs
from worker.engines.refusal import Complaint, Subject, from_stream
from worker.engines.toolcalls import CallReader, CallsDelta, CallStream, Fragment

NOTHING = msgspec.Raw(b"")


class PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: int | None = None


class CompletionDetails(msgspec.Struct, gc=False):
    reasoning_tokens: int | None = None


class Counts(msgspec.Struct, gc=False):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None

    def usage(self) -> Usage:
        prompt, completion = self.prompt_tokens_details, self.completion_tokens_details
        return Usage(
            self.prompt_tokens,
            self.completion_tokens,
            (prompt and prompt.cached_tokens) or 0,
            (completion and completion.reasoning_tokens) or 0,
        )


class Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    """vLLM's name for the same."""
    refusal: str | None = None
    tool_calls: list[Fragment] | None = None


class Choice(msgspec.Struct, gc=False):
    delta: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: msgspec.Raw = NOTHING


class Timings(msgspec.Struct, gc=False):
    """llama.cpp's counts so far."""

    cache_n: int = 0
    prompt_n: int = 0
    predicted_n: int = 0

    def usage(self) -> Usage:
        return Usage(self.cache_n + self.prompt_n, self.predicted_n, self.cache_n)


class Chunk(msgspec.Struct, gc=False):
    choices: list[Choice] = []
    usage: Counts | None = None
    timings: Timings | None = None
    error: Complaint | None = None


class ReasoningDelta(msgspec.Struct, gc=False, omit_defaults=True):
    reasoning_content: str | None = None
    refusal: str | None = None


class ContentDelta(msgspec.Struct, gc=False):
    content: str


decode = msgspec.json.Decoder(Chunk).decode
encode = msgspec.json.Encoder().encode


class ChunkReader:
    """Gives one streamed choice to `sink`; afterwards `reason` and `usage` are known.

    `calls` reads tool calls out of forced JSON; `logprobs` says in which shape they leave. `spent`
    tokens of what the engine takes for the prompt are what was generated before.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        calls: CallReader | None = None,
        logprobs: Logprobs | None = None,
        subject: Subject = "messages",
        schema_param: str = "response_format",
        spent: int = 0,
    ) -> None:
        self.reason: str | None = None
        self.usage: Usage | None = None
        self._sink = sink
        self._calls = calls
        self._logprobs = logprobs
        self._plain = calls is None and logprobs is None
        self._own_calls = CallStream()
        self._called = False
        self._subject = subject
        self._schema_param = schema_param
        self._spent = spent

    def take(self, data: bytes) -> None:
        """One event's data; raises EngineLost when it is no chunk, HubError when it is an error."""
        try:
            chunk = decode(data)
        except msgspec.MsgspecError as error:
            raise EngineLost(f"the engine sent a chunk of another shape: {error}") from error
        if chunk.choices:
            choice = chunk.choices[0]
            delta = choice.delta
            text = delta.content if delta is not None else choice.text
            if self._plain:
                if text:
                    self._sink.text(text)
            elif text or choice.logprobs != NOTHING:
                self._shaped(text or "", choice.logprobs)
            if delta is not None and (
                delta.tool_calls or delta.reasoning_content or delta.reasoning or delta.refusal
            ):
                self._others(delta)
            if choice.finish_reason is not None:
                self._end(choice.finish_reason)
        if chunk.usage is not None:
            self.usage = chunk.usage.usage()
            self._sink.count(self._behind(self.usage))
        elif chunk.timings is not None:
            self._sink.count(self._behind(chunk.timings.usage()))
        if chunk.error is not None:
            raise from_stream(chunk.error, self._subject, self._schema_param)

    def close(self) -> Usage:
        """The stream is over; raises EngineLost when its choice is not."""
        if self.reason is None:
            raise EngineLost("the engine's stream ended in the middle of the choice")
        return self.usage or Usage()

    def _behind(self, usage: Usage) -> Usage:
        """The counts of the whole choice."""
        spent = self._spent
        if not spent:
            return usage
        prompt = max(0, usage.prompt - spent)
        completion = usage.completion + spent
        return Usage(prompt, completion, min(usage.cached, prompt), usage.reasoning)

    def _shaped(self, text: str, logprobs: msgspec.Raw) -> None:
        if self._calls is not None:
            for raw, delta in self._calls.feed(text):
                self._sink.delta(raw, encode(delta), b"")
            return
        given = self._logprobs is not None and bytes(logprobs) not in (b"", b"null")
        shaped = self._logprobs.shape(logprobs) if self._logprobs and given else b""
        if shaped:
            self._sink.delta(text, encode(ContentDelta(text)), shaped)
        elif text:
            self._sink.text(text)

    def _others(self, delta: Delta) -> None:
        reasoning = delta.reasoning_content or delta.reasoning
        if reasoning or delta.refusal:
            told = ReasoningDelta(reasoning or None, delta.refusal or None)
            self._sink.delta(None, encode(told), b"")
        if delta.tool_calls:
            fragments = [self._own_calls.pass_on(fragment) for fragment in delta.tool_calls]
            self._called = True
            self._sink.delta(None, encode(CallsDelta(fragments)), b"")

    def _end(self, reason: str) -> None:
        if self.reason is not None:
            return
        if reason == "stop" and (self._calls is not None or self._called):
            reason = "tool_calls"
        self.reason = reason
        self._sink.finish(reason)
