"""Examples as the tokens of their base: which are read, and which are learned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import TemplateError
from transformers import AutoTokenizer, GenerationConfig

from trainer.example import Example, Message, Unusable, answers

IGNORED = -100
"""The label of a token that is not learned."""


@dataclass(frozen=True)
class Sample:
    """One sequence; `labels` are its tokens, or IGNORED."""

    ids: list[int]
    labels: list[int]

    def cut(self, length: int) -> Sample:
        return Sample(self.ids[:length], self.labels[:length])

    @property
    def learned(self) -> int:
        return sum(label != IGNORED for label in self.labels)


@dataclass(frozen=True)
class Pair:
    """A prompt and two answers to it, the preferred one first."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


class UnfitError(Exception):
    """The base cannot be trained; the message says why."""


class Words:
    """The tokenizer and chat template of a Hugging Face folder. Raises UnfitError."""

    def __init__(self, folder: Path) -> None:
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise UnfitError(f"The base's tokenizer cannot be read: {error}") from error
        if not self.tokenizer.chat_template:
            raise UnfitError("The base has no chat template: it cannot be trained on chats.")
        if not self.tokenizer.is_fast:
            raise UnfitError("The base's tokenizer has no tokenizer.json.")
        if self.tokenizer.eos_token_id is None:
            raise UnfitError("The base's tokenizer has no token that ends an answer.")
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.ends = ends(folder) | {self.tokenizer.eos_token_id}
        self._template = str(self.tokenizer.chat_template)

    def samples(self, example: Example) -> list[Sample]:
        """One for the whole conversation where its template only ever adds; else one an answer.

        Raises Unusable where the template cannot render it.
        """
        places = [place for place, _ in answers(example)]
        last = places[-1]
        whole = self.render(example, example.messages[: last + 1])
        spans = []
        for place in places:
            before = self.render(example, example.messages[:place], ask=True)
            upto = self.render(example, example.messages[: place + 1])
            if not upto.startswith(before) or not whole.startswith(upto):
                return [self._answer(example, place) for place in places]
            spans.append((len(before), len(upto.rstrip())))
        return [self._sample(whole.rstrip(), spans)]

    def pair(self, example: Example) -> Pair:
        """Raises Unusable."""
        asked = example.messages[: example.prompt]
        before = self.render(example, asked, ask=True)
        chosen = self.render(example, example.messages).rstrip()
        rejected = self.render(example, (*asked, *example.others)).rstrip()
        start = common(before, chosen, rejected)
        return Pair(
            self._tokens(chosen[:start]),
            self._ended(self._tokens(chosen[start:])),
            self._ended(self._tokens(rejected[start:])),
        )

    def render(self, example: Example, messages: tuple[Message, ...], *, ask: bool = False) -> str:
        """The text a base reads; `ask`: as far as the answer begins."""
        if (example.tools or any(each.tool_calls for each in messages)) and (
            "tool" not in self._template
        ):
            raise Unusable("tools_unsupported", "The base's chat template knows no tools.", "tools")
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    [self._told(message) for message in messages],
                    tools=list(example.tools) or None,
                    tokenize=False,
                    add_generation_prompt=ask,
                )
            )
        except (TemplateError, TypeError, ValueError) as error:
            said = " ".join(str(error).split())[:200]
            raise Unusable(
                "template_unfit", f"The base's chat template does not take it: {said}.", "messages"
            ) from error

    def _told(self, message: Message) -> dict[str, Any]:
        role: str = message.role
        if role == "developer" and "developer" not in self._template:
            role = "system"
        told: dict[str, Any] = {"role": role, "content": message.content or ""}
        if message.name is not None:
            told["name"] = message.name
        if message.tool_call_id is not None:
            told["tool_call_id"] = message.tool_call_id
        if message.tool_calls:
            told["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {
                        "name": call.name,
                        "arguments": msgspec.json.decode(call.arguments),
                    },
                }
                for call in message.tool_calls
            ]
        return told

    def _answer(self, example: Example, place: int) -> Sample:
        before = self.render(example, example.messages[:place], ask=True)
        upto = self.render(example, example.messages[: place + 1]).rstrip()
        return self._sample(upto, [(common(before, upto), len(upto))])

    def _sample(self, text: str, spans: list[tuple[int, int]]) -> Sample:
        """A token that is partly within a span is learned."""
        read = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids = list(read["input_ids"])
        labels = [IGNORED] * len(ids)
        span = iter(spans)
        start, end = next(span)
        for place, (first, behind) in enumerate(read["offset_mapping"]):
            while first >= end:
                start, end = next(span, (len(text) + 1, len(text) + 2))
            if behind > start and first < end:
                labels[place] = ids[place]
        ended = self._ended(ids)
        return Sample(ended, labels + ended[len(ids) :])

    def _ended(self, ids: list[int]) -> list[int]:
        """With the token that ends an answer, if the template has none."""
        return ids if ids and ids[-1] in self.ends else [*ids, self.tokenizer.eos_token_id]

    def _tokens(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def common(*texts: str) -> int:
    """Characters that all begin with."""
    first, last = min(texts), max(texts)
    for place, (one, other) in enumerate(zip(first, last, strict=False)):
        if one != other:
            return place
    return len(first)


def ends(folder: Path) -> set[int]:
    """The tokens that the base's generation settings end an answer at."""
    try:
        found = GenerationConfig.from_pretrained(folder, local_files_only=True).eos_token_id
    except OSError:
        return set()
    if found is None:
        return set()
    return set(found) if isinstance(found, list) else {found}
