"""What is done with jobs: create, list, look at, cancel, pause, resume."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl

import msgspec

from gateway.routes.admin.desk import Call, Done, found
from gateway.routes.fine_tuning import told
from gateway.routes.fine_tuning.create import created, expanded
from gateway.routes.fine_tuning.dataset import check_dataset, check_room
from shared.catalog import Catalog
from shared.errors import Conflict, InvalidRequest, InvalidValue
from shared.settings import Settings
from shared.store import fine_tuning as store
from shared.store.audit import Change
from shared.wire.openai.fine_tuning import (
    ENDED,
    FineTuningJob,
    JobCheckpoint,
    JobCreate,
    JobEvent,
    Status,
    TrainingCreate,
)
from shared.wire.training import Job, Note

CREATE = msgspec.json.Decoder(JobCreate)
BRIEF = msgspec.json.Decoder(TrainingCreate)
METADATA = re.compile(r"^metadata\[(.{1,64})\]$", re.DOTALL)
USUAL_PAGE = 20
LARGEST_PAGE = 1000
OPEN: tuple[Status, ...] = ("validating_files", "queued", "running")


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A page of jobs, events or checkpoints."""

    data: list[FineTuningJob] | list[JobEvent] | list[JobCheckpoint]
    has_more: bool
    object: str = "list"
    first_id: str | None = None
    last_id: str | None = None


class Jobs:
    """`brief`: with the words of /api/v1/training/jobs."""

    def __init__(self, settings: Settings, catalog: Catalog, *, brief: bool = False) -> None:
        self._settings = settings
        self._catalog = catalog
        self._brief = brief

    async def create(self, call: Call) -> Done:
        asked = expanded(call.body(BRIEF)) if self._brief else call.body(CREATE)
        job = created(asked, call.account, self._catalog, self._settings)
        first = "dataset_path" if self._brief else "training_file"
        files = {first: job.training_file, "validation_file": job.validation_file}
        size = 0
        for param, name in files.items():
            if name is not None:
                size += await check_dataset(
                    call.connection, job.project, name, param, self._settings
                )
        await check_room(call.connection, job.project, size, first, self._settings)
        await store.insert(call.connection, job, size)
        notes = [Note(f"Created fine-tuning job: {job.id}")]
        if before := await store.waiting_before(call.connection, job.id):
            notes.append(
                Note(f"{before} job{'s' if before > 1 else ''} before it", data={"before": before})
            )
        await store.note(call.connection, job.id, notes)
        made = self._told(await self._find(call, job.id))
        return Done(made, [change("created", made, job.project)], announced=False)

    async def list(self, call: Call) -> Listed:
        filters = metadata(call.query_string)
        names = () if filters is None else ("metadata", *(f"metadata[{key}]" for key in filters))
        query = call.query("limit", "after", *names)
        limit = query.number("limit", 1, LARGEST_PAGE) or USUAL_PAGE
        after = query.one("after")
        if after is not None:
            await self._find(call, after, "after")
        found_rows = await store.select(
            call.connection,
            limit + 1,
            project=call.account.project,
            after=after,
            metadata=filters,
        )
        return listed([self._told(row) for row in found_rows], limit)

    async def retrieve(self, call: Call) -> FineTuningJob:
        return self._told(await self._find(call, call.at("job")))

    async def cancel(self, call: Call) -> Done:
        return await self._move(call, "cancelled", (*OPEN, "paused"), "The job was cancelled.")

    async def pause(self, call: Call) -> Done:
        return await self._move(call, "paused", OPEN, "The job was paused.")

    async def resume(self, call: Call) -> Done:
        return await self._move(call, "queued", ("paused",), "The job goes on.")

    async def events(self, call: Call) -> Listed:
        query = call.query("limit", "after", "stream")
        limit = query.number("limit", 1, LARGEST_PAGE) or USUAL_PAGE
        job = await self._find(call, call.at("job"))
        before = number(query.one("after"))
        rows = await store.events(call.connection, job.id, limit + 1, before)
        return listed([told.event(row) for row in rows], limit)

    async def checkpoints(self, call: Call) -> Listed:
        query = call.query("limit", "after")
        limit = query.number("limit", 1, LARGEST_PAGE) or 10
        job = await self._find(call, call.at("job"))
        rows = await store.checkpoints(call.connection, job.id, limit + 1, query.one("after"))
        return listed([told.checkpoint(row, job.id) for row in rows], limit)

    async def _move(self, call: Call, to: Status, origins: tuple[Status, ...], words: str) -> Done:
        """Doing again what is done already changes nothing."""
        before = await self._find(call, call.at("job"))
        moved = await store.move(call.connection, before.id, before.project, to, origins)
        after = await self._find(call, before.id)
        if moved is None:
            if after.status == to or (to == "queued" and after.status in OPEN):
                return Done(self._told(after))
            what = "has ended" if after.status in ENDED else "is not paused"
            raise Conflict(f"The job {what}: it is {after.status}.", param="fine_tuning_job_id")
        await store.note(call.connection, before.id, [Note(words)])
        shown = self._told(after)
        return Done(shown, [change(to, shown, before.project)], announced=False)

    async def _find(self, call: Call, id_: str, param: str = "id") -> Job:
        row = await store.find(call.connection, id_, call.account.project)
        if row is None and param == "after":
            raise InvalidValue(f"No fine-tuning job has the id {id_!r}.", param=param)
        return found(row, "fine-tuning job", id_)

    def _told(self, row: Job) -> FineTuningJob:
        return told.job(row, brief=self._brief)


def change(what: str, job: FineTuningJob, project: str) -> Change:
    return Change(f"fine_tuning.job.{what}", job.id, after=job, project=project)


def number(after: str | None) -> int | None:
    """Of the event with that id."""
    if after is None:
        return None
    known = told.event_number(after)
    if known is None:
        raise InvalidValue(f"No event has the id {after!r}.", param="after")
    return known


def listed(data: list[FineTuningJob] | list[JobEvent] | list[JobCheckpoint], limit: int) -> Listed:
    """Of at most `limit` + 1."""
    shown = data[:limit]
    return Listed(
        data=shown,
        has_more=len(data) > limit,
        first_id=shown[0].id if shown else None,
        last_id=shown[-1].id if shown else None,
    )


def metadata(query: bytes) -> Mapping[str, str] | None:
    """The filter that a query string holds; empty for `metadata=null`, which finds jobs without."""
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=200)
    except (UnicodeDecodeError, ValueError):
        raise InvalidRequest("The query string cannot be read.") from None
    wanted: dict[str, str] = {}
    none = False
    for name, value in pairs:
        if (match := METADATA.match(name)) is not None:
            wanted[match[1]] = value
        elif name == "metadata" and value == "null":
            none = True
        elif name == "metadata":
            raise InvalidValue(
                "Invalid value for 'metadata': metadata[KEY]=VALUE, or null.", param="metadata"
            )
    if none and wanted:
        raise InvalidValue("'metadata' is null and has keys.", param="metadata")
    return wanted if wanted or none else None
