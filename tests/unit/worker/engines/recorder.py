"""A sink that remembers, for tests of engines."""

from __future__ import annotations

import json
from typing import Any

from shared.wire.event import Usage
from worker.engines.base import Pausable


class Recorder:
    """`texts` and `deltas` in order of arrival; `raw` is what a resume would go on behind."""

    def __init__(self) -> None:
        self.source: Pausable | None = None
        self.texts: list[str] = []
        self.deltas: list[dict[str, Any]] = []
        self.logprobs: list[dict[str, Any]] = []
        self._raw: list[str] = []
        self.resumable = True
        self.reasons: list[str] = []
        self.counts: list[Usage] = []

    def attach(self, source: Pausable) -> None:
        self.source = source

    def text(self, text: str) -> None:
        assert text
        assert not self.reasons
        self.texts.append(text)
        self._raw.append(text)

    def delta(self, raw: str | None, delta: bytes, logprobs: bytes) -> None:
        assert not self.reasons
        self.deltas.append(json.loads(delta))
        if logprobs:
            self.logprobs.append(json.loads(logprobs))
        self.resumable = self.resumable and raw is not None
        self._raw.append(raw or "")

    def count(self, usage: Usage) -> None:
        self.counts.append(usage)

    def finish(self, reason: str) -> None:
        self.reasons.append(reason)

    @property
    def raw(self) -> str:
        return "".join(self._raw)

    @property
    def content(self) -> str:
        return "".join(self.texts)

    @property
    def fragments(self) -> list[dict[str, Any]]:
        return [piece for delta in self.deltas for piece in delta.get("tool_calls", ())]

    @property
    def arguments(self) -> str:
        return "".join(piece["function"].get("arguments", "") for piece in self.fragments)
