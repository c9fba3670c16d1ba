"""What one gateway process counts."""

from __future__ import annotations

from gateway.cache.responses import Responses
from gateway.dispatch import Dispatch
from gateway.gauges import gauges
from shared.metrics import Counter, Histogram, Metric, render
from shared.wire.event import Usage


class Counts:
    def __init__(self, dispatch: Dispatch, responses: Responses) -> None:
        self.others = gauges(dispatch, responses)
        self.requests = Counter(
            "aihub_requests_total", "Requests answered, by route and status.", ("route", "status")
        )
        self.seconds = Histogram(
            "aihub_request_seconds",
            "From the request's first byte to the reply's last.",
            ("route",),
        )
        self.first = Histogram(
            "aihub_first_token_seconds", "From the request to its first content.", ("model",)
        )
        self.items = Counter(
            "aihub_streamed_items_total", "Reply items sent to clients as chunks.", ("model",)
        )
        self.tokens = Counter(
            "aihub_tokens_total", "Tokens as the engines counted them.", ("model", "direction")
        )
        self.cached = Counter(
            "aihub_cache_requests_total",
            "Requests the response cache had a part in, by what became of them.",
            ("outcome",),
        )

    def add_tokens(self, model: str, usage: Usage) -> None:
        self.tokens.add(usage.prompt, (model, "prompt"))
        self.tokens.add(usage.completion, (model, "completion"))

    def text(self) -> str:
        own: list[Metric] = [self.requests, self.seconds, self.first, self.items, self.tokens]
        return render((*own, self.cached, *self.others))
