"""POST /v1/chat/completions."""

from __future__ import annotations

import msgspec

from gateway import worst
from gateway.ask import Ask, StreamForm
from gateway.exchange import Exchange
from gateway.routes.admission import service_class
from gateway.routes.generation import Generation
from gateway.sse import ChatChunks, Head
from shared import ids
from shared.wire.event import Answer, Choice, Vectors
from shared.wire.openai import chat, message
from shared.wire.openai.usage import from_event

NO_MEDIA = b"This model reads text only; images and other media were replaced by a note."

encode = msgspec.json.Encoder().encode


class ChatRoute:
    def __init__(self, generation: Generation) -> None:
        self._generation = generation

    async def __call__(self, exchange: Exchange) -> None:
        generation = self._generation
        body = await exchange.read(generation.settings.max_body)
        request = chat.decode(body)
        await generation.admission.learn(request.model)
        entry = generation.admission.admit_chat(exchange, request, len(body))
        if message.has_media(request.messages) and entry.model.engine == "llamacpp":
            exchange.extra.append((b"x-aihub-notice", NO_MEDIA))
        fingerprint = generation.admission.fingerprint(entry)
        ask = Ask(
            "chat",
            entry,
            body,
            service_class(exchange, request.service_tier),
            fingerprint,
            worst.of_chat(request, entry.model, len(body)),
            bool(request.stream),
            request.temperature,
        )
        form = ChatForm(ids.again("chatcmpl-", exchange.id), entry.name, fingerprint, request)
        await generation.answer(exchange, ask, form)


class ChatForm(StreamForm):
    def __init__(self, id_: str, model: str, fingerprint: str, request: chat.ChatRequest) -> None:
        self._id = id_
        self._model = model
        self._fingerprint = fingerprint
        self._tier = "flex" if request.service_tier == "flex" else "default"
        self._include_usage = request.include_usage
        self._choices = request.n or 1

    def whole(self, answer: Answer | Vectors, created: int) -> bytes:
        assert isinstance(answer, Answer)
        return encode(
            chat.ChatCompletion(
                id=self._id,
                created=created,
                model=self._model,
                choices=[
                    whole_choice(index, choice) for index, choice in enumerate(answer.choices)
                ],
                usage=from_event(answer.usage),
                service_tier=self._tier,
                system_fingerprint=self._fingerprint,
            )
        )

    def chunks(self, created: int) -> ChatChunks:
        head = Head(self._id, created, self._model, self._fingerprint, self._tier)
        return ChatChunks(head, include_usage=self._include_usage, choices=self._choices)


def whole_choice(index: int, choice: Choice) -> chat.ReplyChoice:
    reply = chat.ReplyMessage(content=choice.text)
    if choice.tool_calls:
        reply.tool_calls = msgspec.Raw(choice.tool_calls)
    if choice.reasoning is not None:
        reply.reasoning_content = choice.reasoning
    return chat.ReplyChoice(
        index=index,
        message=reply,
        logprobs=msgspec.Raw(choice.logprobs) if choice.logprobs else None,
        finish_reason=choice.reason,
    )
