"""Questions to an engine, and what came back."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from shared.wire.event import Usage
from tests.unit.worker.engines.recorder import Recorder
from worker.engines.base import Generation, Sink

PATIENCE = 180
"""Seconds for one answer on a busy machine."""
TELL = [{"role": "user", "content": "Tell me about the sea."}]
WEATHER = [{"role": "user", "content": "What is the weather in Paris?"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"$ref": "#/$defs/name"}},
                "required": ["city"],
                "additionalProperties": False,
                "$defs": {"name": {"type": "string", "maxLength": 30}},
            },
        },
    },
    {"type": "function", "function": {"name": "stop_all"}},
]
FORM = {
    "type": "json_schema",
    "json_schema": {
        "name": "w",
        "schema": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Rome"]}, "sunny": {"type": "boolean"}},
            "required": ["city", "sunny"],
            "additionalProperties": False,
        },
    },
}


class Generator(Protocol):
    """The part of an engine that answers."""

    async def generate(self, generation: Generation, sink: Sink) -> Usage: ...


class Watched(Recorder):
    """Tells when the first piece came."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()

    def text(self, text: str) -> None:
        super().text(text)
        self.begun.set()


def generation(
    *, resume: str = "", pieces: int = 0, adapter: str | None = None, **body: Any
) -> Generation:
    """A completion if there is a prompt, else a chat; greedy unless a temperature is given."""
    body.setdefault("temperature", 0)
    if "prompt" not in body:
        body.setdefault("messages", TELL)
    kind: Any = "completion" if "prompt" in body else "chat"
    return Generation(kind=kind, body=body, resume=resume, pieces=pieces, adapter=adapter)


async def ask(
    engine: Generator, sink: Recorder | None = None, **asked: Any
) -> tuple[Recorder, Usage]:
    """One whole answer to what `generation` makes of `asked`."""
    sink = Recorder() if sink is None else sink
    async with asyncio.timeout(PATIENCE):
        usage = await engine.generate(generation(**asked), sink)
    assert len(sink.reasons) == 1
    return sink, usage
