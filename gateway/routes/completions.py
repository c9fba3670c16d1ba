"""POST /v1/completions."""

from __future__ import annotations

import time

import msgspec

from gateway import delivery
from gateway.counts import Counts
from gateway.dispatch import Dispatch
from gateway.exchange import JSON, Exchange
from gateway.reply import Reply
from gateway.routes.admission import Admission, service_class
from gateway.sse import CompletionChunks, Head
from shared import ids
from shared.catalog import Entry
from shared.settings import Settings
from shared.wire.event import Answer, Failed
from shared.wire.openai import completion
from shared.wire.openai.usage import from_event

encode = msgspec.json.Encoder().encode


class CompletionRoute:
    def __init__(
        self, settings: Settings, admission: Admission, dispatch: Dispatch, counts: Counts
    ) -> None:
        self._settings = settings
        self._admission = admission
        self._dispatch = dispatch
        self._counts = counts

    async def __call__(self, exchange: Exchange) -> None:
        body = await exchange.read(self._settings.max_body)
        request = completion.decode(body)
        entry = self._admission.admit(exchange, request.model, "chat")
        entry = self._admission.answering(exchange, entry)
        streamed = bool(request.stream)
        reply = await self._dispatch.open(
            "completion",
            entry,
            body,
            key=exchange.account.key,
            streamed=streamed,
            service=service_class(exchange, None),
        )
        head = Head(
            ids.new("cmpl-"), int(time.time()), entry.name, self._admission.fingerprint(entry)
        )
        try:
            if streamed:
                chunks = CompletionChunks(head, include_usage=request.include_usage)
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
        body = completion.Completion(
            id=head.id,
            created=head.created,
            model=head.model,
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
            system_fingerprint=head.fingerprint,
        )
        await exchange.respond(200, encode(body), JSON)
