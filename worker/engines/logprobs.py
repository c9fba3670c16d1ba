"""Token log-probabilities from the engine's shape into OpenAI's two. Pure."""

from __future__ import annotations

from typing import Protocol

import msgspec

IMPOSSIBLE = -9999.0
"""What OpenAI gives for a token whose probability is nil."""


class Alternative(msgspec.Struct):
    token: str
    logprob: float | None = None
    bytes: list[int] | None = None


class Token(msgspec.Struct):
    token: str
    logprob: float | None = None
    bytes: list[int] | None = None
    top_logprobs: list[Alternative] = []


class Content(msgspec.Struct):
    content: list[Token] | None = None
    refusal: None = None


class Legacy(msgspec.Struct):
    """What /v1/completions carries."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


class Logprobs(Protocol):
    """One of OpenAI's shapes."""

    def shape(self, raw: msgspec.Raw) -> bytes: ...


decode = msgspec.json.Decoder(Content).decode
encode = msgspec.json.Encoder().encode


def read(raw: msgspec.Raw, top: int) -> list[Token]:
    tokens = decode(raw).content or []
    for token in tokens:
        token.logprob = IMPOSSIBLE if token.logprob is None else token.logprob
        token.top_logprobs = token.top_logprobs[:top]
        for other in token.top_logprobs:
            other.logprob = IMPOSSIBLE if other.logprob is None else other.logprob
    return tokens


class ChatLogprobs:
    """`{"content": [{token, logprob, bytes, top_logprobs}], "refusal": null}`, `top` each."""

    def __init__(self, top: int) -> None:
        self._top = top

    def shape(self, raw: msgspec.Raw) -> bytes:
        """JSON, or empty when the engine gave none."""
        tokens = read(raw, self._top)
        return encode(Content(tokens)) if tokens else b""


class TextLogprobs:
    """The parallel lists of /v1/completions; `offset` is the length of the text before."""

    def __init__(self, top: int, offset: int) -> None:
        self._top = top
        self._offset = offset

    def shape(self, raw: msgspec.Raw) -> bytes:
        """JSON, or empty when the engine gave none."""
        tokens = read(raw, self._top)
        if not tokens:
            return b""
        offsets = []
        for token in tokens:
            offsets.append(self._offset)
            self._offset += len(token.token)
        top = [{t.token: t.logprob or 0.0 for t in token.top_logprobs} for token in tokens]
        return encode(
            Legacy(
                [token.token for token in tokens],
                [token.logprob or 0.0 for token in tokens],
                top if self._top else None,
                offsets,
            )
        )


class SameLogprobs:
    """As the upstream gives them."""

    def shape(self, raw: msgspec.Raw) -> bytes:
        """JSON, or empty when the engine gave none."""
        return bytes(raw)
