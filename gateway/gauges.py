"""What one gateway process shows of itself, of the cache and of the workers when it is asked."""

from __future__ import annotations

import os
import resource
from functools import partial
from pathlib import Path

from gateway.cache.responses import Responses
from gateway.dispatch import Dispatch
from shared.metrics import Gauge, Metric

PAGE = os.sysconf("SC_PAGE_SIZE")
BOOKS = {
    "budget": "models may take together",
    "reserved": "are reserved for models",
    "free": "a model could take now",
}

Values = dict[tuple[str, ...], float]


def gauges(dispatch: Dispatch, responses: Responses) -> list[Metric]:
    """All of them, in the order in which they are shown."""
    return [*of_cache(responses), *of_process(dispatch), *of_workers(dispatch)]


def of_cache(responses: Responses) -> list[Metric]:
    return [
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
    ]


def of_process(dispatch: Dispatch) -> list[Metric]:
    return [
        Gauge(
            "aihub_gateway_info",
            "The process that answered this scrape.",
            lambda: {(dispatch.name,): 1},
            ("process",),
        ),
        Gauge(
            "aihub_open_replies",
            "Requests that wait or stream now.",
            lambda: {(): dispatch.open_replies},
        ),
        Gauge("process_resident_memory_bytes", "Resident memory.", lambda: {(): resident()}),
        Gauge("process_cpu_seconds_total", "CPU time, user and system.", lambda: {(): cpu()}),
    ]


def of_workers(dispatch: Dispatch) -> list[Metric]:
    return [
        Gauge(
            "aihub_worker_running_jobs",
            "Jobs on each live worker.",
            lambda: {(w.name, w.lane): w.running for w in dispatch.sightings.workers()},
            ("worker", "lane"),
        ),
        Gauge(
            "aihub_model_ready",
            "1 when the worker's engine for the model answers.",
            partial(ready, dispatch),
            ("worker", "model"),
        ),
        *(
            Gauge(
                f"aihub_device_{what}_bytes",
                f"Bytes of the device that {text}.",
                partial(books, dispatch, what),
                ("worker", "device"),
            )
            for what, text in BOOKS.items()
        ),
        Gauge(
            "aihub_model_measured_bytes",
            "Bytes of the device that a loaded model was measured to hold.",
            partial(measured, dispatch),
            ("worker", "device", "model"),
        ),
    ]


def ready(dispatch: Dispatch) -> Values:
    return {
        (worker.name, name): float(model.state == "ready")
        for worker in dispatch.sightings.workers()
        for name, model in worker.models.items()
    }


def books(dispatch: Dispatch, what: str) -> Values:
    return {(w.name, w.device.name): getattr(w.device, what) for w in dispatch.sightings.workers()}


def measured(dispatch: Dispatch) -> Values:
    return {
        (worker.name, worker.device.name, name): float(model.measured)
        for worker in dispatch.sightings.workers()
        for name, model in worker.models.items()
        if model.measured is not None
    }


def resident() -> float:
    return float(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
