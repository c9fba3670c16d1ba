"""Token counts as replies carry them."""

from __future__ import annotations

import msgspec

from shared.wire import event


class PromptDetails(msgspec.Struct):
    cached_tokens: int = 0
    audio_tokens: int = 0


class CompletionDetails(msgspec.Struct):
    reasoning_tokens: int = 0
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class EmbeddingUsage(msgspec.Struct):
    prompt_tokens: int
    total_tokens: int


def from_event(counts: event.Usage) -> Usage:
    return Usage(
        counts.prompt,
        counts.completion,
        counts.prompt + counts.completion,
        PromptDetails(cached_tokens=counts.cached),
        CompletionDetails(reasoning_tokens=counts.reasoning),
    )
