"""What is done with exports of tuned models: asked for, looked at, deleted."""

from __future__ import annotations

from typing import get_args

import msgspec

from gateway.routes.admin.desk import Call, Done, found
from gateway.routes.admin.query import page
from shared import ids
from shared.errors import Conflict, InvalidValue, ModelNotAllowed, ModelNotFound, UnsupportedValue
from shared.settings import Settings
from shared.store import export as store
from shared.store.audit import Change
from shared.wire.admin import Deleted, Page
from shared.wire.export import Export, ExportCreate, ExportSource, Format, Quantisation

CREATE = msgspec.json.Decoder(ExportCreate)
FORMATS: tuple[Format, ...] = get_args(Format)
QUANTISATIONS: tuple[Quantisation, ...] = get_args(Quantisation)
MOST_OPEN = 20
"""Of one project."""
NEVER = (
    "A tuned model is never merged into 4 bits: rounding to so few values undoes what was learned."
)
NO_TRAINER = "This hub exports nothing: no trainer is set up. Its operator sets train_python."


class Exports:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def create(self, call: Call) -> Done:
        """A trainer makes it; its id is what to ask for."""
        asked = call.body(CREATE)
        format_, quantisation = chosen(asked)
        if self._settings.train_python is None:
            raise UnsupportedValue(NO_TRAINER, param="model")
        project, models = call.account.project, call.account.models
        source = await store.source(call.connection, asked.model, project)
        if source is None:
            raise ModelNotFound(
                f"The project has no tuned model {asked.model!r}; an alias is none.", param="model"
            )
        if models and asked.model not in models:
            raise ModelNotAllowed(f"This key may not use the model {asked.model!r}.", param="model")
        check(asked.model, format_, source)
        if await store.count_open(call.connection, project) >= MOST_OPEN:
            raise Conflict(
                f"The project has {MOST_OPEN} exports that have not ended. Wait for one, or delete"
                " one.",
                param="model",
            )
        id_ = ids.new("export-")
        await store.insert(call.connection, id_, project, asked.model, format_, quantisation)
        made = await find(call, id_)
        shown = Change("fine_tuning.export.created", id_, after=made, project=project)
        return Done(made, [shown], announced=False)

    async def list(self, call: Call) -> Page:
        query = call.query("limit", "after")
        limit, after = query.limit(), query.one("after")
        if after is not None and not await store.select(
            call.connection, call.account.project, 1, id_=after
        ):
            raise InvalidValue(f"No export has the id {after!r}.", param="after")
        rows = await store.select(call.connection, call.account.project, limit + 1, after=after)
        return page(rows, limit)

    async def retrieve(self, call: Call) -> Export:
        return await find(call, call.at("export"))

    async def delete(self, call: Call) -> Done:
        """Ends it if it has not ended; the file of one that has stays where files are."""
        before = await find(call, call.at("export"))
        project = call.account.project
        await store.delete(call.connection, before.id, project)
        gone = Change("fine_tuning.export.deleted", before.id, before, project=project)
        return Done(Deleted(before.id, "fine_tuning.export.deleted"), [gone], announced=False)


async def find(call: Call, id_: str) -> Export:
    rows = await store.select(call.connection, call.account.project, 1, id_=id_)
    return found(rows[0] if rows else None, "export", id_)


def chosen(asked: ExportCreate) -> tuple[Format, Quantisation | None]:
    """Raises InvalidValue, UnsupportedValue."""
    format_ = next((known for known in FORMATS if known == asked.format), None)
    if format_ is None:
        raise InvalidValue(
            f"Invalid value for 'format': {', '.join(FORMATS)} are possible. {NEVER}",
            param="format",
        )
    if asked.quantisation is None:
        return format_, "q8_0" if format_ == "gguf" else None
    if format_ != "gguf":
        raise InvalidValue(
            f"'quantisation' is for the format gguf; {format_} keeps the types of the weights.",
            param="quantisation",
        )
    quantisation = next((known for known in QUANTISATIONS if known == asked.quantisation), None)
    if quantisation is None:
        raise UnsupportedValue(
            f"Invalid value for 'quantisation': {' and '.join(QUANTISATIONS)} are possible."
            f" {NEVER}",
            param="quantisation",
        )
    return format_, quantisation


def check(model: str, format_: Format, source: ExportSource) -> None:
    """Raises UnsupportedValue for a GGUF file of a base that has none."""
    plan = source.plan.get("plan")
    if format_ == "gguf" and isinstance(plan, dict) and plan.get("base_gguf") is None:
        raise UnsupportedValue(
            f"The base of {model!r}, {source.base!r}, is no GGUF file. Export safetensors;"
            " llama.cpp converts that folder.",
            param="format",
        )
