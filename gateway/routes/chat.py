"""POST /v1/chat/completions."""

from __future__ import annotations

import time

import msgspec

from gateway import delivery
from gateway.counts import Counts
from gateway.dispatch import Dispatch
from gateway.exchange import JSON, Exchange
from gateway.reply import Reply
from gateway.routes.admission import Admission, service_class
from gateway.sse import ChatChunks, Head
from shared import ids
from shared.catalog import Entry
from shared.settings import Settings
from shared.wire.event import Answer, Choice, Failed
from shared.wire.openai import chat, message
from shared.wire.openai.usage import from_event

NO_MEDIA = b"This model reads text only; images and other media were replaced by a note."

encode = msgspec.json.Encoder().encode


class ChatRoute:
    def __init__(
        self, settings: Settings, admission: Admission, dispatch: Dispatch, counts: Counts
    ) -> None:
        self._settings = settings
        self._admission = admission
        self._dispatch = dispatch
        self._counts = counts

    async def __call__(self, exchange: Exchange) -> None:
        body = await exchange.read(self._settings.max_body)
        request = chat.decode(body)
        entry = self._admission.admit_chat(exchange, request, len(body))
        if message.has_media(request.messages) and entry.model.engine == "llamacpp":
            exchange.extra.append((b"x-aihub-notice", NO_MEDIA))
        streamed = bool(request.stream)
        reply = await self._dispatch.open(
            "chat",
            entry,
            body,
            key=exchange.account.key,
            streamed=streamed,
            service=service_class(exchange, request.service_tier),
        )
        head = Head(
            ids.new("chatcmpl-"),
            int(time.time()),
            entry.name,
            self._admission.fingerprint(entry),
            "flex" if request.service_tier == "flex" else "default",
        )
        try:
            if streamed:
                chunks = ChatChunks(
                    head, include_usage=request.include_usage, choices=request.n or 1
                )
                await delivery.count_stream(
                    exchange, reply, chunks, self._settings.request_timeout, self._counts
                )
            else:
                await self._whole(exchange, reply, entry, head)
        finally:
            reply.close()

    async def _whole(self, exchange: Exchange, reply: Reply, entry: Entry, head: Head) -> None:
        answer = await delivery.whole(exchange, reply, Answer, self._settings.request_timeout)
        if isinstance(answer, Failed):
            await exchange.refuse(answer)
            return
        self._counts.add_tokens(entry.name, answer.usage)
        completion = chat.ChatCompletion(
            id=head.id,
            created=head.created,
            model=head.model,
            choices=[whole_choice(index, choice) for index, choice in enumerate(answer.choices)],
            usage=from_event(answer.usage),
            service_tier=head.tier or "default",
            system_fingerprint=head.fingerprint,
        )
        await exchange.respond(200, encode(completion), JSON)


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
