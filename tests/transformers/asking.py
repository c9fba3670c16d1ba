"""Questions to the engine, and what came back."""

from __future__ import annotations

import asyncio
from typing import Any

from shared.wire.event import Usage
from tests.unit.worker.engines.recorder import Recorder
from worker.engines.base import Generation
from worker.engines.transformers import Transformers

TELL = [{"role": "user", "content": "Tell me about the sea."}]


class Watched(Recorder):
    """Tells when the first piece came."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()

    def text(self, text: str) -> None:
        super().text(text)
        self.begun.set()


def generation(*, resume: str = "", adapter: str | None = None, **body: Any) -> Generation:
    body.setdefault("temperature", 0)
    if "prompt" not in body:
        body.setdefault("messages", TELL)
    kind: Any = "completion" if "prompt" in body else "chat"
    return Generation(kind=kind, body=body, resume=resume, adapter=adapter)


async def ask(base: Transformers, **asked: Any) -> tuple[Recorder, Usage]:
    sink = Recorder()
    async with asyncio.timeout(180):
        usage = await base.generate(generation(**asked), sink)
    assert len(sink.reasons) == 1
    return sink, usage
