"""The most that a request may use, from its text alone. Pure.

No tokenizer makes more tokens of a text than it has bytes, and its JSON is no shorter; a chat
template adds its own. An engine of ours ends at the model's context; others may be told less of it
than there is, so there only the text counts.
"""

from __future__ import annotations

from typing import NamedTuple

from shared import price
from shared.settings import Model
from shared.wire.account import Price
from shared.wire.openai.chat import ChatRequest
from shared.wire.openai.completion import CompletionRequest, count_inputs
from shared.wire.openai.embedding import EmbeddingRequest
from shared.wire.openai.message import has_media

TEMPLATE = 256
"""Tokens that a chat template may add to all messages together."""
TOOLS = 1024
"""…and where it tells of tools, or of the form that the answer is to have."""
COMPLETION = 16
"""OpenAI's max_tokens of a completion that says none."""
BOUNDED = ("llamacpp", "vllm", "transformers")
"""Engines for which `context` is what one request may use."""


class Worst(NamedTuple):
    """`prompt` tokens in all; `completion` tokens of each of `choices` answers."""

    prompt: int
    completion: int = 0
    choices: int = 0

    @property
    def tokens(self) -> int:
        return self.prompt + self.completion * self.choices

    def micros(self, charged: Price | None, seconds: float) -> int:
        """What it costs at most, if it runs for so long."""
        answers = self.completion * self.choices
        return price.dearest(charged, self.prompt, answers, int(seconds * 1000))


def of_chat(request: ChatRequest, model: Model, size: int) -> Worst:
    """`size` is the body's, in bytes."""
    formed = request.tools or request.response_format is not None
    text = size + TEMPLATE + (TOOLS if formed else 0)
    if has_media(request.messages):
        text = max(text, model.context)
    asked = request.max_completion_tokens or request.max_tokens or model.context
    return Worst(prompt(text, model, 1), min(asked, model.context), request.n or 1)


def of_completion(request: CompletionRequest, model: Model, size: int) -> Worst:
    prompts = count_inputs(request.prompt, "prompt")
    asked = request.max_tokens or model.defaults.get("max_tokens") or COMPLETION
    answer = min(int(asked), model.context)
    return Worst(prompt(size, model, prompts), answer, prompts * (request.n or 1))


def of_embedding(request: EmbeddingRequest, model: Model, size: int) -> Worst:
    inputs = count_inputs(request.input, "input")
    if model.token_input != "own" and holds_ids(request.input):
        return Worst(inputs * model.context)
    return Worst(prompt(size, model, inputs))


def prompt(text: int, model: Model, texts: int) -> int:
    return min(text, texts * model.context) if model.engine in BOUNDED else text


def holds_ids(given: object) -> bool:
    """Whether it is token ids, of which one may stand for a long text."""
    return isinstance(given, list) and not isinstance(given[0], str)
