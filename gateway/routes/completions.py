"""POST /v1/completions."""

from __future__ import annotations

import msgspec

from gateway import worst
from gateway.ask import Ask, StreamForm
from gateway.exchange import Exchange
from gateway.routes.admission import service_class
from gateway.routes.generation import Generation
from gateway.sse import CompletionChunks, Head
from shared import ids
from shared.wire.event import Answer, Vectors
from shared.wire.openai import completion
from shared.wire.openai.usage import from_event

encode = msgspec.json.Encoder().encode


class CompletionRoute:
    def __init__(self, generation: Generation) -> None:
        self._generation = generation

    async def __call__(self, exchange: Exchange) -> None:
        generation = self._generation
        body = await exchange.read(generation.settings.max_body)
        request = completion.decode(body)
        await generation.admission.learn(request.model)
        entry = generation.admission.admit(exchange, request.model, "chat")
        entry = generation.admission.answering(exchange, entry)
        fingerprint = generation.admission.fingerprint(entry)
        ask = Ask(
            "completion",
            entry,
            body,
            service_class(exchange, None),
            fingerprint,
            worst.of_completion(request, entry.model, len(body)),
            bool(request.stream),
            request.temperature,
        )
        form = CompletionForm(ids.again("cmpl-", exchange.id), entry.name, fingerprint, request)
        await generation.answer(exchange, ask, form)


class CompletionForm(StreamForm):
    def __init__(
        self, id_: str, model: str, fingerprint: str, request: completion.CompletionRequest
    ) -> None:
        self._id = id_
        self._model = model
        self._fingerprint = fingerprint
        self._include_usage = request.include_usage

    def whole(self, answer: Answer | Vectors, created: int) -> bytes:
        assert isinstance(answer, Answer)
        return encode(
            completion.Completion(
                id=self._id,
                created=created,
                model=self._model,
                choices=[
                    completion.ReplyChoice(
                        text=choice.text or "",
                        index=index,
                        logprobs=msgspec.Raw(choice.logprobs) if choice.logprobs else None,
                        finish_reason=choice.reason,
                    )
                    for index, choice in enumerate(answer.choices)
                ],
                usage=from_event(answer.usage),
                system_fingerprint=self._fingerprint,
            )
        )

    def chunks(self, created: int) -> CompletionChunks:
        head = Head(self._id, created, self._model, self._fingerprint)
        return CompletionChunks(head, include_usage=self._include_usage)
