"""One choice from its prompt to its last token."""

from __future__ import annotations

from typing import Any

import torch

from worker.engines.transformers_child.grammar import Grammars, Matcher
from worker.engines.transformers_child.options import Request
from worker.engines.transformers_child.refusal import Refusal, too_long
from worker.engines.transformers_child.sampler import Sampler, logprobs
from worker.engines.transformers_child.text import Spelling, Stops

Chunk = dict[str, Any]


class Speech:
    """A tokenizer with what the model says of it."""

    def __init__(self, tokenizer: Any, vocabulary: int, ends: list[int], context: int) -> None:
        self.ends = frozenset(ends)
        self.context = context
        self.vocabulary = vocabulary
        self.grammars = Grammars(tokenizer, vocabulary, ends)
        self._tokenizer = tokenizer

    def decode(self, ids: list[int]) -> str:
        return str(
            self._tokenizer.decode(
                ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )

    def spell(self, ids: list[int]) -> str:
        """Special tokens too."""
        return str(self._tokenizer.decode(ids, clean_up_tokenization_spaces=False))

    def encode(self, text: str, *, special: bool) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=special)["input_ids"])

    def prompt(self, request: Request) -> list[int]:
        """Raises Refusal."""
        if request.messages is None:
            if isinstance(request.prompt, str):
                return self.encode(request.prompt, special=True)
            ids = list(request.prompt or ())
            wrong = next((one for one in ids if not 0 <= one < self.vocabulary), None)
            if wrong is not None:
                known = self.vocabulary - 1
                raise Refusal(
                    f"Token id {wrong} is out of range; this model knows 0 to {known}.",
                    param="prompt",
                )
            return ids
        if not self._tokenizer.chat_template:
            raise Refusal("This model has no chat template; use /v1/completions.", param="messages")
        told = {"add_generation_prompt": True} | request.template
        try:
            text = self._tokenizer.apply_chat_template(request.messages, tokenize=False, **told)
        except Exception as error:
            # A template raises what it likes, in any language's words.
            raise Refusal(
                f"The model's chat template refuses: {error}", param="messages"
            ) from error
        return self.encode(text, special=False)


class Running:
    """`ids` is the prompt and what was generated; the first `done` of it are in the cache."""

    def __init__(self, request: Request, speech: Speech) -> None:
        """Raises Refusal."""
        prompt = speech.prompt(request)
        if not prompt:
            raise Refusal("The prompt is empty.", param="prompt")
        if len(prompt) >= speech.context:
            raise too_long(len(prompt), speech.context)
        answer = speech.encode(request.resume, special=False) if request.resume else []
        self.ids = [*prompt, *answer]
        self.done = 0
        self.adapter = request.adapter or ""
        self.reason: str | None = None
        self.cancelled = False
        self._prompt = len(prompt)
        self._request = request
        self._speech = speech
        self._room = min(speech.context, len(prompt) + (request.max_tokens or speech.context))
        if request.max_tokens == 0:
            self._room = len(prompt)
        self._matcher: Matcher | None = None
        if request.schema is not None:
            self._matcher = speech.grammars.matcher(request.schema, answer)
        self._sampler = Sampler(request.sampling, prompt, answer)
        self._spelling = Spelling(speech.decode, answer)
        self._stops = Stops(request.stop)
        self._told: list[dict[str, Any]] = []
        """Log-probabilities of tokens whose text was not given yet."""
        if len(self.ids) >= self._room:
            self.reason = "length"
        elif self._matcher is not None and self._matcher.over:
            self.reason = "stop"

    def take(self, logits: torch.Tensor) -> Chunk | None:
        """Choose the next token by `logits`, (vocabulary,); returns what may be given of it."""
        asked = self._request.top_logprobs
        untouched = logits.clone() if asked is not None else logits
        if self._request.ignore_eos:
            logits[list(self._speech.ends)] = -torch.inf
        token = self._sampler.pick(logits, self._matcher.allowed() if self._matcher else None)
        self.ids.append(token)
        if token in self._speech.ends:
            return self._end("stop", "")
        if asked is not None:
            self._told.append(logprobs(untouched, token, asked, self._speech.spell))
        text = self._stops.feed(self._spelling.feed(token))
        if self._stops.met:
            return self._end("stop", text)
        if self._matcher is not None:
            self._matcher.take(token)
            if self._matcher.over:
                return self._end("stop", text)
        if len(self.ids) >= self._room:
            return self._end("length", text)
        return self._chunk(text) if text else None

    def closing(self) -> Chunk:
        """The chunk of one that ended before its first token."""
        return self._chunk("")

    def _end(self, reason: str, text: str) -> Chunk:
        self.reason = reason
        if not self._stops.met:
            text += self._stops.feed(self._spelling.close())
        if not self._stops.met:
            text += self._stops.close()
        return self._chunk(text)

    def _chunk(self, text: str) -> Chunk:
        choice: dict[str, Any] = {"text": text}
        chunk: Chunk = {"choices": [choice]}
        if self._told:
            choice["logprobs"] = {"content": self._told}
            self._told = []
        if self.reason is not None:
            choice["finish_reason"] = self.reason
        chunk["usage"] = {
            "prompt_tokens": self._prompt,
            "completion_tokens": len(self.ids) - self._prompt,
        }
        return chunk
