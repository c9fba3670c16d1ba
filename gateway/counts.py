"""What one gateway process counts."""

from __future__ import annotations

import os
import resource
from functools import partial
from pathlib import Path

from gateway.cache.responses import Responses
from gateway.dispatch import Dispatch
from shared.metrics import Counter, Gauge, Histogram, Metric, render
from shared.wire.event import Usage

PAGE = os.sysconf("SC_PAGE_SIZE")
BOOKS = {
    "budget": "models may take together",
    "reserved": "are reserved for models",
    "free": "a model could take now",
}


class Counts:
    def __init__(self, dispatch: Dispatch, responses: Responses) -> None:
        self._dispatch = dispatch
        self.others: list[Metric] = []
        self._cache_size = (
            Gauge(
                "aihub_cache_answers",
                "Answers that are kept, by all gateways together.",
                lambda: {(): responses.size.answers},
            ),
            Gauge(
                "aihub_cache_bytes",
                "Bytes they take, as the cache counts them.",
                lambda: {(): responses.size.bytes},
            ),
        )
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
        self._own = Gauge(
            "aihub_gateway_info", "The process that answered this scrape.", self._info, ("process",)
        )
        self._open = Gauge(
            "aihub_open_replies",
            "Requests that wait or stream now.",
            lambda: {(): dispatch.open_replies},
        )
        self._running = Gauge(
            "aihub_worker_running_jobs",
            "Jobs on each live worker.",
            lambda: {(w.name, w.lane): w.running for w in dispatch.workers()},
            ("worker", "lane"),
        )
        self._models = Gauge(
            "aihub_model_ready",
            "1 when the worker's engine for the model answers.",
            lambda: {
                (worker.name, name): float(model.state == "ready")
                for worker in dispatch.workers()
                for name, model in worker.models.items()
            },
            ("worker", "model"),
        )
        self._device_bytes = [
            Gauge(
                f"aihub_device_{what}_bytes",
                f"Bytes of the device that {text}.",
                partial(self._books, what),
                ("worker", "device"),
            )
            for what, text in BOOKS.items()
        ]
        self._model_bytes = Gauge(
            "aihub_model_measured_bytes",
            "Bytes of the device that a loaded model was measured to hold.",
            self._measured,
            ("worker", "device", "model"),
        )
        self._memory = Gauge(
            "process_resident_memory_bytes", "Resident memory.", lambda: {(): resident()}
        )
        self._cpu = Gauge(
            "process_cpu_seconds_total", "CPU time, user and system.", lambda: {(): cpu()}
        )

    def add_tokens(self, model: str, usage: Usage) -> None:
        self.tokens.add(usage.prompt, (model, "prompt"))
        self.tokens.add(usage.completion, (model, "completion"))

    def text(self) -> str:
        return render(
            (
                self._own,
                self.requests,
                self.seconds,
                self.first,
                self.items,
                self.tokens,
                self.cached,
                *self._cache_size,
                self._open,
                self._running,
                self._models,
                *self._device_bytes,
                self._model_bytes,
                self._memory,
                self._cpu,
                *self.others,
            )
        )

    def _books(self, what: str) -> dict[tuple[str, ...], float]:
        workers = self._dispatch.workers()
        return {(w.name, w.device.name): getattr(w.device, what) for w in workers}

    def _measured(self) -> dict[tuple[str, ...], float]:
        return {
            (worker.name, worker.device.name, name): float(model.measured)
            for worker in self._dispatch.workers()
            for name, model in worker.models.items()
            if model.measured is not None
        }

    def _info(self) -> dict[tuple[str, ...], float]:
        return {(self._dispatch.name,): 1}


def resident() -> float:
    return float(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
