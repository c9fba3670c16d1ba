"""Projects and their members; OpenAI's objects and more fields of ours."""

from __future__ import annotations

import msgspec

from gateway.routes.admin.desk import Call, Done, found, settled
from gateway.routes.admin.query import PAGE, of_window
from shared import ids
from shared.db import Connection
from shared.errors import Conflict, InvalidValue, MissingParameter
from shared.store import api_key, project, user
from shared.store.audit import Change
from shared.store.window import Window
from shared.wire.admin import (
    Deleted,
    Member,
    MemberCreate,
    MemberUpdate,
    Project,
    ProjectCreate,
    ProjectUpdate,
)

CREATE = msgspec.json.Decoder(ProjectCreate)
UPDATE = msgspec.json.Decoder(ProjectUpdate)
ADD = msgspec.json.Decoder(MemberCreate)
CHANGE = msgspec.json.Decoder(MemberUpdate)


async def find(call: Call) -> Project:
    id_ = call.at("project")
    return found(await project.find(call.connection, id_), "project", id_)


async def active(call: Call, id_: str) -> Project:
    """The project, locked; raises NotFound, or Conflict when it is archived."""
    it = found(await project.find(call.connection, id_, lock=True), "project", id_)
    if it.archived_at is not None:
        raise Conflict(f"The project {id_!r} is archived.", param="project")
    return it


async def select(call: Call) -> object:
    query = call.query(*PAGE, "include_archived")
    window = query.window()
    archived = query.flag("include_archived")
    return of_window(await project.select(call.connection, window, archived=archived), window)


async def create(call: Call) -> Done:
    asked = call.body(CREATE)
    id_ = ids.new("proj_")
    await project.insert(call.connection, id_, call.account.organisation, asked)
    made = found(await project.find(call.connection, id_), "project", id_)
    return Done(made, [Change("project.created", id_, after=made, project=id_)])


async def update(call: Call) -> Done:
    asked = call.body(UPDATE)
    before = await active(call, call.at("project"))
    after = settled(before, **msgspec.structs.asdict(asked))
    if after == before:
        return Done(before)
    await project.update(call.connection, after)
    return Done(after, [Change("project.updated", after.id, before, after, after.id)])


async def archive(call: Call) -> Done:
    """Its keys stop working. Archiving again changes nothing."""
    id_ = call.at("project")
    before = found(await project.find(call.connection, id_, lock=True), "project", id_)
    if before.archived_at is not None:
        return Done(before)
    if id_ == api_key.DEFAULT_PROJECT:
        raise Conflict("The default project holds the bootstrap key and cannot be archived.")
    await project.archive(call.connection, id_)
    after = found(await project.find(call.connection, id_), "project", id_)
    return Done(after, [Change("project.archived", id_, before, after, id_)])


async def delete(call: Call) -> Done:
    """Archives, as nothing that was used is ever deleted."""
    done = await archive(call)
    return Done(Deleted(call.at("project"), "organization.project.deleted"), done.changes)


async def find_member(call: Call) -> Member:
    id_ = call.at("user")
    row = await user.find_member(call.connection, (await find(call)).id, id_)
    return found(row, "member of this project", id_)


async def select_members(call: Call) -> object:
    window = call.query(*PAGE).window()
    it = await find(call)
    return of_window(await user.select_members(call.connection, window, it.id), window)


async def add_member(call: Call) -> Done:
    asked = call.body(ADD)
    it = await active(call, call.at("project"))
    id_ = await named(call.connection, asked)
    await user.insert_member(call.connection, it.id, id_, asked.role)
    made = await user.find_member(call.connection, it.id, id_)
    return Done(made, [Change("membership.created", id_, after=made, project=it.id)])


async def named(connection: Connection, asked: MemberCreate) -> str:
    """The user meant by id or address."""
    if asked.user_id is not None and asked.email is not None:
        raise InvalidValue("Give either 'user_id' or 'email'.", param="email")
    if asked.user_id is not None:
        return asked.user_id
    if asked.email is None:
        raise MissingParameter("Missing required parameter: 'user_id'.", param="user_id")
    matching = await user.select(connection, Window(1), emails=[asked.email])
    if not matching:
        raise InvalidValue(f"No user has the address {asked.email!r}.", param="email")
    return matching[0].id


async def update_member(call: Call) -> Done:
    asked = call.body(CHANGE)
    it, id_ = await active(call, call.at("project")), call.at("user")
    row = await user.find_member(call.connection, it.id, id_, lock=True)
    before = found(row, "member of this project", id_)
    if before.role == asked.role:
        return Done(before)
    await user.update_member(call.connection, it.id, id_, asked.role)
    after = settled(before, role=asked.role)
    return Done(after, [Change("membership.updated", id_, before, after, it.id)])


async def remove_member(call: Call) -> Done:
    """Revokes the keys the user has in this project."""
    it, id_ = await find(call), call.at("user")
    row = await user.find_member(call.connection, it.id, id_, lock=True)
    before = found(row, "member of this project", id_)
    changes = await revoke_of(call.connection, id_, it.id)
    await user.delete_member(call.connection, it.id, id_)
    changes.append(Change("membership.deleted", id_, before, project=it.id))
    return Done(Deleted(id_, "organization.project.user.deleted"), changes)


async def revoke_of(connection: Connection, user_id: str, project_id: str | None) -> list[Change]:
    """Revokes every key of a user, in one project or in all."""
    changes: list[Change] = []
    some = Window(1000)
    while keys := await api_key.select(connection, some, user=user_id, project=project_id):
        for key in keys:
            await api_key.revoke(connection, key.id)
            after = await api_key.find_key(connection, key.id)
            changes.append(Change("api_key.deleted", key.id, key, after, key.project))
    return changes
