"""/v1/fine_tuning/checkpoints/{model}/permissions: administrators share a model with projects."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from litestar.handlers import ASGIRouteHandler

from gateway.exchange import JSON, Exchange
from gateway.front import Front, not_allowed
from gateway.routes.admin.desk import LARGEST, Call, Desk, Done, encode, found
from shared.errors import InvalidValue, ModelNotFound
from shared.store import permission as store
from shared.store.audit import Change
from shared.store.window import Window
from shared.wire.openai.fine_tuning import (
    CheckpointPermission,
    PermissionCreate,
    PermissionDeleted,
    PermissionList,
)

BASES = ("/v1/fine_tuning/checkpoints", "/api/v1/fine_tuning/checkpoints")
NOUN = "/permissions"
CREATE = msgspec.json.Decoder(PermissionCreate)
LARGEST_PAGE = 1000
USUAL_PAGE = 10


class Shared(CheckpointPermission, frozen=True, kw_only=True):
    """As the audit log has it."""

    model: str


class Permissions:
    """`changed`: gateways must look up again which models there are."""

    def __init__(self, desk: Desk, changed: Callable[[object], Awaitable[None]]) -> None:
        self._desk = desk
        self._changed = changed

    def routes(self, front: Front) -> list[ASGIRouteHandler]:
        methods = ("GET", "POST", "DELETE")
        return [
            front.route("fine_tuning", [base], methods, self, needs="admin", is_mount=True)
            for base in BASES
        ]

    async def __call__(self, exchange: Exchange) -> None:
        model, id_ = named(exchange)
        exchange.parameters = {"model": model} | ({} if id_ is None else {"permission": id_})
        reading = exchange.method in ("GET", "HEAD")
        if reading and id_ is None:
            await self._desk.read(exchange, listed)
        elif exchange.method == "POST" and id_ is None:
            await self._write(exchange, create)
        elif exchange.method == "DELETE" and id_ is not None:
            await self._write(exchange, delete)
        else:
            allowed = "GET, POST" if id_ is None else "DELETE"
            exchange.extra.append((b"allow", allowed.encode()))
            raise not_allowed(exchange.method, allowed)

    async def _write(self, exchange: Exchange, write: Callable[[Call], Awaitable[Done]]) -> None:
        body = await exchange.read(LARGEST)
        reply = await self._desk.change(exchange, body, write, needs="admin")
        await self._changed(reply)
        await exchange.respond(200, encode(reply), JSON)


def named(exchange: Exchange) -> tuple[str, str | None]:
    """The model, whose name may have slashes, and the permission."""
    path = exchange.path.rstrip("/")
    for base in BASES:
        rest = path.removeprefix(f"{base}/")
        if rest != path:
            model, noun, id_ = rest.rpartition(NOUN)
            if model and noun and (not id_ or (id_.startswith("/") and "/" not in id_[1:])):
                return model, id_[1:] or None
    raise exchange.unknown()


async def create(call: Call) -> Done:
    """All of them or none; those that are there already stay as they are."""
    asked = call.body(CREATE)
    model = call.at("model")
    owner = await owned(call, model)
    known = await store.grantees(call.connection, asked.project_ids, owner)
    for index, project in enumerate(asked.project_ids):
        if project not in known:
            raise InvalidValue(
                f"No active project has the id {project!r}.", param=f"project_ids[{index}]"
            )
    before = await store.select(
        call.connection, model, Window(len(known)), projects=asked.project_ids
    )
    for project in sorted(known):
        await store.grant(call.connection, model, project)
    made = await store.select(
        call.connection, model, Window(len(known)), projects=asked.project_ids
    )
    old = {one.id for one in before}
    changes = [
        Change("checkpoint.permission.created", one.id, after=told(one, model), project=owner)
        for one in made
        if one.id not in old
    ]
    return Done(shown(made, len(made)), changes, announced=False)


async def listed(call: Call) -> PermissionList:
    query = call.query("after", "limit", "order", "project_id")
    limit = query.number("limit", 1, LARGEST_PAGE) or USUAL_PAGE
    order = query.one("order")
    if order not in (None, "ascending", "descending"):
        raise InvalidValue("Invalid value for 'order': ascending or descending.", param="order")
    model = call.at("model")
    await owned(call, model)
    project, after = query.one("project_id"), query.one("after")
    if after is not None and not await store.select(call.connection, model, id_=after):
        raise InvalidValue(f"No permission has the id {after!r}.", param="after")
    rows = await store.select(
        call.connection,
        model,
        Window(limit + 1, after, order != "ascending"),
        projects=None if project is None else [project],
    )
    return shown(rows, limit)


async def delete(call: Call) -> Done:
    model, id_ = call.at("model"), call.at("permission")
    owner = await owned(call, model)
    rows = await store.select(call.connection, model, id_=id_)
    before = found(rows[0] if rows else None, "permission", id_)
    await store.delete(call.connection, model, id_)
    gone = Change("checkpoint.permission.deleted", id_, told(before, model), project=owner)
    return Done(PermissionDeleted(id_), [gone], announced=False)


async def owned(call: Call, model: str) -> str:
    owner = await store.owner(call.connection, model)
    if owner is None:
        raise ModelNotFound(
            f"There is no fine-tuned model or checkpoint {model!r}.",
            param="fine_tuned_model_checkpoint",
        )
    return owner


def told(one: CheckpointPermission, model: str) -> Shared:
    return Shared(one.id, one.project_id, one.created_at, model=model)


def shown(rows: list[CheckpointPermission], limit: int) -> PermissionList:
    data = rows[:limit]
    ends = (data[0].id, data[-1].id) if data else (None, None)
    return PermissionList(data, len(rows) > limit, *ends)
