"""What the child is told, by command line and by request. Pure, and the standard library alone."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Options:
    """`parent` is the pid that must live on for the child to live."""

    weights: str
    """A folder, or a Hugging Face id."""
    socket: str
    parent: int
    embedding: bool
    context: int
    """Tokens of one request, prompt and answer together."""
    parallel: int
    """Requests in one step."""
    piece: int
    """Prompt tokens read between two tokens of the other requests' answers."""
    dtype: str
    """Torch's name of a type, or auto: as published."""
    threads: int
    cuda: bool
    memory: int
    """Bytes that torch may take on the card; 0: no bound."""

    @classmethod
    def decode(cls, text: str) -> Options:
        return cls(**json.loads(text))


@dataclass(frozen=True, kw_only=True)
class Sampling:
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    """0: all tokens."""
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    """Tokens that repeat_penalty looks back at; -1: all."""
    seed: int | None = None
    logit_bias: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Request:
    """One choice. `messages` or `prompt` is given; `resume` is text generated behind it before."""

    messages: list[dict[str, Any]] | None = None
    prompt: str | list[int] | None = None
    template: dict[str, Any] = field(default_factory=dict)
    """More arguments of the chat template."""
    resume: str = ""
    adapter: str | None = None
    max_tokens: int | None = None
    """Of the whole answer, what is resumed included."""
    stop: list[str] = field(default_factory=list)
    ignore_eos: bool = False
    top_logprobs: int | None = None
    """Alternatives told with each token; None: no log-probabilities at all."""
    schema: dict[str, Any] | None = None
    """A JSON schema that holds the answer."""
    sampling: Sampling = field(default_factory=Sampling)

    @classmethod
    def decode(cls, body: bytes) -> Request:
        told = json.loads(body)
        return cls(**told | {"sampling": Sampling(**told.get("sampling", {}))})
