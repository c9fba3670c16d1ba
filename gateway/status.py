"""Heartbeats as administrators see them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from shared.catalog import Catalog
from shared.line import Line
from shared.wire.node import DeviceReport, LoadProgress, ModelReport, WorkerState
from shared.wire.status import (
    DecisionStatus,
    DeviceStatus,
    ModelBytes,
    ModelStatus,
    Progress,
    QueueStatus,
    Status,
    WorkerStatus,
)


def status(
    workers: Iterable[WorkerState],
    lines: Mapping[str, Line],
    catalog: Catalog,
    now_ms: int,
    only: str | None = None,
) -> Status:
    """Everything, or what concerns one base model. `lines` are by model; `now_ms` is ours."""
    found = [worker_status(w, now_ms, only) for w in sorted(workers, key=lambda w: w.name)]
    lanes = {worker.lane for worker in found}
    having = {(worker.lane, model.model) for worker in found for model in worker.models}
    shown = [worker for worker in found if only is None or worker.models]
    return Status(
        workers=shown,
        queues={
            model: QueueStatus(waiting=line.waiting, overdue_seconds=line.overdue_ms / 1000)
            for model, line in lines.items()
        },
        unserved=[
            entry.name
            for entry in catalog
            if only in (None, entry.name)
            and (
                entry.model.lane not in lanes
                or (entry.server and (entry.model.lane, entry.name) not in having)
            )
        ],
    )


def worker_status(worker: WorkerState, now_ms: int, only: str | None) -> WorkerStatus:
    return WorkerStatus(
        name=worker.name,
        lane=worker.lane,
        host=worker.host,
        pid=worker.pid,
        up_seconds=seconds(worker.at_ms, worker.started_ms),
        heard_seconds=seconds(now_ms, worker.at_ms),
        running=worker.running,
        device=device_status(worker.device),
        models=[
            model_status(worker, name, report, worker.at_ms)
            for name, report in worker.models.items()
            if only in (None, name)
        ],
        decisions=[
            DecisionStatus(
                number=note.number,
                ago_seconds=seconds(worker.at_ms, note.wall_ms),
                models=note.models,
                text=note.text,
            )
            for note in worker.decisions
            if only is None or only in note.models
        ],
    )


def device_status(report: DeviceReport) -> DeviceStatus:
    return msgspec.convert(msgspec.structs.asdict(report), DeviceStatus)


def model_status(worker: WorkerState, name: str, report: ModelReport, at_ms: int) -> ModelStatus:
    """`report` is what the worker said at `at_ms` of its own clock."""
    resident = report.state in ("ready", "asleep")
    going = report.progress
    return ModelStatus(
        model=name,
        worker=worker.name,
        lane=worker.lane,
        device=worker.device.name,
        state=report.state,
        since_seconds=seconds(at_ms, report.since_ms),
        idle_seconds=seconds(at_ms, report.used_ms) if resident and not report.serving else None,
        keep_alive=report.keep_alive,
        serving=report.serving,
        places=report.places,
        waiting=report.waiting,
        asked=report.asked,
        pinned=report.pinned,
        bytes=ModelBytes(
            size=report.size,
            reserved=report.reserved,
            estimated=report.estimated,
            measured=report.measured,
        ),
        bring_seconds=round(report.bring_seconds, 3),
        request_seconds=round(report.request_seconds, 3) or None,
        progress=None if going is None else progress(going),
        held=report.held or None,
        why=report.why or None,
        retry_seconds=seconds(report.retry_ms, at_ms) if report.state == "failed" else None,
        adapters=report.adapters,
    )


def progress(going: LoadProgress) -> Progress:
    return Progress(phase=going.phase, read=going.read, total=going.total)


def seconds(later_ms: int, earlier_ms: int) -> float:
    return max(0, later_ms - earlier_ms) / 1000
