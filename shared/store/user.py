"""Users, and their memberships in projects."""

from __future__ import annotations

from collections.abc import Sequence

from shared.db import Connection, queries
from shared.store.window import ONE, Window, columns, locked, rows
from shared.wire.admin import Member, MemberRole, User, UserCreate

SQL = queries("user")


async def insert(connection: Connection, id_: str, organisation: str, asked: UserCreate) -> None:
    """Raises psycopg.errors.UniqueViolation when somebody has this address."""
    values = {"id": id_, "organisation": organisation, **columns(asked)}
    await connection.execute(SQL["insert_user"], values)


async def update(connection: Connection, user: User) -> None:
    """Writes the name and the role."""
    await connection.execute(SQL["update_user"], columns(user))


async def delete(connection: Connection, id_: str) -> None:
    """With the memberships. Keys lose their owner: revoke them first."""
    await connection.execute(SQL["delete_user"], {"id": id_})


async def find(connection: Connection, id_: str, *, lock: bool = False) -> User | None:
    if lock and not await locked(connection, SQL["lock_user"], {"id": id_}):
        return None
    found = await select(connection, ONE, id_=id_)
    return found[0] if found else None


async def select(
    connection: Connection,
    window: Window,
    *,
    id_: str | None = None,
    emails: Sequence[str] = (),
) -> list[User]:
    asked = [email.lower() for email in emails] or None
    values = {"id": id_, "emails": asked, **window._asdict()}
    return await rows(connection, SQL["find_users"], values, User)


async def insert_member(connection: Connection, project: str, user: str, role: MemberRole) -> None:
    """Raises psycopg.errors.UniqueViolation for somebody who is a member already."""
    values = {"project": project, "user": user, "role": role}
    await connection.execute(SQL["insert_member"], values)


async def update_member(connection: Connection, project: str, user: str, role: MemberRole) -> None:
    values = {"project": project, "user": user, "role": role}
    await connection.execute(SQL["update_member"], values)


async def delete_member(connection: Connection, project: str, user: str) -> None:
    await connection.execute(SQL["delete_member"], {"project": project, "user": user})


async def find_member(
    connection: Connection, project: str, user: str, *, lock: bool = False
) -> Member | None:
    values = {"project": project, "user": user}
    if lock and not await locked(connection, SQL["lock_member"], values):
        return None
    found = await select_members(connection, ONE, project, id_=user)
    return found[0] if found else None


async def select_members(
    connection: Connection, window: Window, project: str, *, id_: str | None = None
) -> list[Member]:
    values = {"project": project, "id": id_, **window._asdict()}
    return await rows(connection, SQL["find_members"], values, Member)
