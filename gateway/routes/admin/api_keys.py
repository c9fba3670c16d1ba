"""Keys: made, shown once, changed, rotated, revoked. Nobody hands on more than they have."""

from __future__ import annotations

import time

import msgspec

from gateway.routes.admin import grant, projects
from gateway.routes.admin.desk import Call, Done, found, settled
from gateway.routes.admin.projects import active
from gateway.routes.admin.query import PAGE, of_window
from shared import ids
from shared.catalog import Catalog
from shared.errors import Conflict, InvalidValue, PermissionDenied
from shared.store import api_key, project, user
from shared.store.api_key import Fresh
from shared.store.audit import Change
from shared.wire.account import SCOPES, Account, Scope
from shared.wire.admin import (
    AdminKeyCreate,
    Deleted,
    FreshKey,
    Key,
    KeyCreate,
    KeyRotate,
    KeyUpdate,
    ServiceAccountCreate,
)

CREATE = msgspec.json.Decoder(KeyCreate)
CREATE_ADMIN = msgspec.json.Decoder(AdminKeyCreate)
CREATE_SERVICE = msgspec.json.Decoder(ServiceAccountCreate)
UPDATE = msgspec.json.Decoder(KeyUpdate)
ROTATE = msgspec.json.Decoder(KeyRotate)
ADMIN_OBJECT = "organization.admin_api_key"
SERVICE_OBJECT = "organization.project.service_account"


class KeyRoutes:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def find(self, call: Call) -> Key:
        return await one(call)

    async def select(self, call: Call) -> object:
        query = call.query(*PAGE, "project", "user", "include_revoked")
        window = query.window()
        rows = await api_key.select(
            call.connection,
            window,
            project=query.one("project"),
            user=query.one("user"),
            revoked=query.flag("include_revoked"),
        )
        return of_window(rows, window)

    async def create(self, call: Call) -> Done:
        asked = call.body(CREATE)
        if await project.find(call.connection, asked.project) is None:
            raise InvalidValue(f"No project has the id {asked.project!r}.", param="project")
        return await self._make(call, asked)

    async def update(self, call: Call) -> Done:
        asked = call.body(UPDATE)
        before = await one(call, lock=True)
        refuse_ended(before)
        after = settled(before, **msgspec.structs.asdict(asked))
        if after == before:
            return Done(before)
        if before.bootstrap and after != settled(before, name=after.name, limits=after.limits):
            raise Conflict("The bootstrap key's scopes, models and expiry cannot be changed.")
        self._check_models(after.models)
        check_expiry(after.expires_at, before.expires_at)
        grant.check(call.account, after.scopes, after.models, after.expires_at)
        await api_key.update(call.connection, after)
        return Done(after, [Change("api_key.updated", after.id, before, after, after.project)])

    async def rotate(self, call: Call) -> Done:
        """A new secret for the same key; the old one goes on working for the grace period."""
        asked = call.body(ROTATE)
        before = await one(call, lock=True)
        refuse_ended(before)
        if before.expires_at is not None and before.expires_at <= time.time():
            raise Conflict(f"The key {before.id!r} has expired.")
        if before.bootstrap:
            raise Conflict("The bootstrap key is rotated where it is set: admin_key, or its file.")
        grant.check(call.account, before.scopes, before.models, before.expires_at)
        fresh = api_key.generate()
        await api_key.rotate(call.connection, before.id, fresh, asked.grace_seconds)
        after = await again(call, before.id)
        change = Change("api_key.rotated", after.id, before, after, after.project)
        return Done(shown(after, fresh), [change])

    async def delete(self, call: Call) -> Done:
        """Revokes; doing so again changes nothing."""
        before = await one(call, lock=True)
        reply = Deleted(before.id, f"{before.object}.deleted")
        return Done(reply, await revoke(call, before))

    async def select_of_project(self, call: Call) -> object:
        query = call.query(*PAGE, "owner_project_access")
        window = query.window()
        it = await projects.find(call)
        rows = await api_key.select(call.connection, window, project=it.id)
        return of_window(rows, window)

    async def select_admins(self, call: Call) -> object:
        window = call.query(*PAGE).window()
        rows = await api_key.select(call.connection, window, scope="admin")
        return of_window([settled(row, object=ADMIN_OBJECT) for row in rows], window)

    async def find_admin(self, call: Call) -> Key:
        return settled(await admin(call), object=ADMIN_OBJECT)

    async def create_admin(self, call: Call) -> Done:
        """With every scope and model of its maker: it must be able to hand them on."""
        asked = call.body(CREATE_ADMIN)
        mine = call.account
        scopes: tuple[Scope, ...] = tuple(scope for scope in SCOPES if mine.may(scope))
        lifetime = asked.expires_in_seconds or left(mine)
        done = await self._make(
            call,
            KeyCreate(asked.name, scopes=scopes, models=mine.models, expires_in_seconds=lifetime),
        )
        return Done(settled(done.reply, object=ADMIN_OBJECT), done.changes)

    async def delete_admin(self, call: Call) -> Done:
        before = await admin(call, lock=True)
        return Done(Deleted(before.id, f"{ADMIN_OBJECT}.deleted"), await revoke(call, before))

    async def create_service(self, call: Call) -> Done:
        """A key nobody in person owns; the account's id is the key's."""
        asked = call.body(CREATE_SERVICE)
        scopes: tuple[Scope, ...] = tuple(
            scope for scope in SCOPES if not scope.startswith("admin") and call.account.may(scope)
        )
        if not scopes:
            raise PermissionDenied("Your key has no scope that it could give away.")
        made = KeyCreate(
            asked.name,
            call.at("project"),
            scopes=scopes,
            models=call.account.models,
            expires_in_seconds=left(call.account),
        )
        done = await self._make(call, made)
        assert isinstance(done.reply, FreshKey)
        return Done(service_made(done.reply), done.changes)

    async def select_services(self, call: Call) -> object:
        window = call.query(*PAGE).window()
        it = await projects.find(call)
        rows = await api_key.select(call.connection, window, project=it.id, userless=True)
        listed = of_window(rows, window)
        return msgspec.structs.replace(
            listed, data=[service(row) for row in rows[: window.limit - 1]]
        )

    async def find_service(self, call: Call) -> object:
        return service(await one_service(call))

    async def delete_service(self, call: Call) -> Done:
        before = await one_service(call, lock=True)
        return Done(Deleted(before.id, f"{SERVICE_OBJECT}.deleted"), await revoke(call, before))

    async def _make(self, call: Call, asked: KeyCreate) -> Done:
        expires_at = expiry(asked)
        self._check_models(asked.models)
        grant.check(call.account, asked.scopes, asked.models, expires_at)
        it = await active(call, asked.project)
        if asked.user is not None:
            await check_user(call, asked.user, it.id)
        fresh = api_key.generate()
        key = Key(
            id=ids.new("key_"),
            name=asked.name,
            project=it.id,
            user=asked.user,
            scopes=asked.scopes,
            models=asked.models,
            limits=asked.limits,
            redacted_value=fresh.prefix,
            bootstrap=False,
            created_at=0,
            expires_at=expires_at,
            revoked_at=None,
            rotated_at=None,
            previous_until=None,
            last_used_at=None,
            owner={},
        )
        await api_key.insert(call.connection, key, fresh)
        made = await again(call, key.id)
        change = Change("api_key.created", made.id, after=made, project=made.project)
        return Done(shown(made, fresh), [change])

    def _check_models(self, models: tuple[str, ...]) -> None:
        for index, name in enumerate(models):
            if not self._catalog.may_find(name):
                raise InvalidValue(
                    f"Invalid value for 'models[{index}]': there is no model {name!r}.",
                    param=f"models[{index}]",
                )


async def one(call: Call, *, lock: bool = False) -> Key:
    """The key in the path, and of the project in the path if there is one."""
    id_ = call.at("key")
    key = found(await api_key.find_key(call.connection, id_, lock=lock), "key", id_)
    if call.has("project") and key.project != call.at("project"):
        found(None, "key of this project", id_)
    return key


async def admin(call: Call, *, lock: bool = False) -> Key:
    key = await one(call, lock=lock)
    return key if "admin" in key.scopes else found(None, "admin key", key.id)


async def one_service(call: Call, *, lock: bool = False) -> Key:
    key = await one(call, lock=lock)
    return key if key.user is None else found(None, "service account", key.id)


async def again(call: Call, id_: str) -> Key:
    return found(await api_key.find_key(call.connection, id_), "key", id_)


async def revoke(call: Call, before: Key) -> list[Change]:
    if before.bootstrap:
        raise Conflict("The bootstrap key cannot be revoked: it is the way back in.")
    if before.revoked_at is not None:
        return []
    await api_key.revoke(call.connection, before.id)
    after = await again(call, before.id)
    return [Change("api_key.deleted", before.id, before, after, before.project)]


async def check_user(call: Call, user_id: str, project_id: str) -> None:
    """A key's user must be in its project."""
    row = await user.find(call.connection, user_id)
    if row is None:
        raise InvalidValue(f"No user has the id {user_id!r}.", param="user")
    member = await user.find_member(call.connection, project_id, user_id)
    if member is None and row.role != "owner":
        raise InvalidValue(f"The user {user_id!r} is no member of the project.", param="user")


def left(account: Account) -> int | None:
    """Seconds the key has left; None: no end."""
    if account.expires_at is None:
        return None
    return max(1, int(account.expires_at.timestamp() - time.time()))


def refuse_ended(key: Key) -> None:
    if key.revoked_at is not None:
        raise Conflict(f"The key {key.id!r} is revoked.")


def expiry(asked: KeyCreate) -> int | None:
    """Epoch seconds."""
    if asked.expires_in_seconds is not None:
        if asked.expires_at is not None:
            raise InvalidValue(
                "Give either 'expires_at' or 'expires_in_seconds'.", param="expires_in_seconds"
            )
        return int(time.time()) + asked.expires_in_seconds
    check_expiry(asked.expires_at, None)
    return asked.expires_at


def check_expiry(expires_at: int | None, before: int | None) -> None:
    if expires_at is not None and expires_at != before and expires_at <= time.time():
        raise InvalidValue("'expires_at' is in the past.", param="expires_at")


def shown(key: Key, fresh: Fresh) -> FreshKey:
    return FreshKey(**msgspec.structs.asdict(key), value=fresh.value)


def service(key: Key) -> dict[str, object]:
    account = {"object": SERVICE_OBJECT, "id": key.id, "name": key.name}
    return {**account, "role": "member", "created_at": key.created_at}


def service_made(key: FreshKey) -> dict[str, object]:
    secret = {"object": f"{SERVICE_OBJECT}.api_key", "value": key.value, "name": key.name}
    return {**service(key), "api_key": {**secret, "created_at": key.created_at, "id": key.id}}
