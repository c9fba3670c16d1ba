"""Users: the people keys and memberships belong to."""

from __future__ import annotations

import msgspec

from gateway.routes.admin.desk import Call, Done, found, settled
from gateway.routes.admin.projects import revoke_of
from gateway.routes.admin.query import PAGE, of_window
from shared import ids
from shared.store import user
from shared.store.audit import Change
from shared.wire.admin import Deleted, User, UserCreate, UserUpdate

CREATE = msgspec.json.Decoder(UserCreate)
UPDATE = msgspec.json.Decoder(UserUpdate)


async def find(call: Call) -> User:
    id_ = call.at("user")
    return found(await user.find(call.connection, id_), "user", id_)


async def select(call: Call) -> object:
    query = call.query(*PAGE, "emails")
    window = query.window()
    emails = query.several("emails") or ()
    return of_window(await user.select(call.connection, window, emails=emails), window)


async def create(call: Call) -> Done:
    asked = call.body(CREATE)
    id_ = ids.new("user_")
    await user.insert(call.connection, id_, call.account.organisation, asked)
    made = await user.find(call.connection, id_)
    return Done(made, [Change("user.added", id_, after=made)])


async def update(call: Call) -> Done:
    asked = call.body(UPDATE)
    id_ = call.at("user")
    before = found(await user.find(call.connection, id_, lock=True), "user", id_)
    after = settled(before, **msgspec.structs.asdict(asked))
    if after == before:
        return Done(before)
    await user.update(call.connection, after)
    return Done(after, [Change("user.updated", id_, before, after)])


async def delete(call: Call) -> Done:
    """Revokes the user's keys, too."""
    id_ = call.at("user")
    before = found(await user.find(call.connection, id_, lock=True), "user", id_)
    changes = await revoke_of(call.connection, id_, None)
    await user.delete(call.connection, id_)
    changes.append(Change("user.deleted", id_, before))
    return Done(Deleted(id_, "organization.user.deleted"), changes)
