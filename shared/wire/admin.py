"""What administrators send and see. Projects, users and keys are supersets of OpenAI's objects.

Times are epoch seconds. UNSET leaves a field as it is.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from shared.wire.account import Amount, CacheSettings, Limits, Owner, Period, Price, Scope

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
Email = Annotated[
    str, msgspec.Meta(max_length=320, pattern=r"^[^@\s\x00-\x1f]+@[^@\s\x00-\x1f]+\Z")
]
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]*\Z")]
Scopes = Annotated[tuple[Scope, ...], msgspec.Meta(min_length=1, max_length=5)]
Models = Annotated[tuple[Name, ...], msgspec.Meta(max_length=200)]
Epoch = Annotated[int, msgspec.Meta(ge=0, le=4_102_444_800)]
Lifetime = Annotated[int, msgspec.Meta(ge=1, le=315_360_000)]
Grace = Annotated[int, msgspec.Meta(ge=0, le=2_592_000)]
Fields = dict[str, object]
Rows = list[object]
UserRole = Literal["owner", "reader"]
MemberRole = Literal["owner", "member"]


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request; what it does not know it refuses."""


class ProjectCreate(Asked, frozen=True):
    """`file_bytes`: what its files may take together; None: as the settings say."""

    name: Name
    limits: Limits = Limits()
    cache: CacheSettings = CacheSettings()
    file_bytes: Amount | None = None


class ProjectUpdate(Asked, frozen=True):
    name: Name | UnsetType = UNSET
    limits: Limits | UnsetType = UNSET
    cache: CacheSettings | UnsetType = UNSET
    file_bytes: Amount | UnsetType | None = UNSET


class UserCreate(Asked, frozen=True):
    email: Email
    name: Name
    role: UserRole = "reader"


class UserUpdate(Asked, frozen=True):
    name: Name | UnsetType = UNSET
    role: UserRole | UnsetType = UNSET


class MemberCreate(Asked, frozen=True):
    """One of `user_id` and `email` is given."""

    role: MemberRole
    user_id: Id | None = None
    email: Email | None = None


class MemberUpdate(Asked, frozen=True):
    role: MemberRole


class KeyCreate(Asked, frozen=True):
    """`models` empty: all. At most one of the two expiries is given; neither: it never expires."""

    name: Name
    project: Id = "proj_default"
    user: Id | None = None
    scopes: Scopes = ("inference",)
    models: Models = ()
    limits: Limits = Limits()
    expires_at: Epoch | None = None
    expires_in_seconds: Lifetime | None = None


class AdminKeyCreate(Asked, frozen=True):
    name: Name
    expires_in_seconds: Lifetime | None = None


class ServiceAccountCreate(Asked, frozen=True):
    name: Name


class KeyUpdate(Asked, frozen=True):
    name: Name | UnsetType = UNSET
    scopes: Scopes | UnsetType = UNSET
    models: Models | UnsetType = UNSET
    limits: Limits | UnsetType = UNSET
    expires_at: Epoch | UnsetType | None = UNSET


class KeyRotate(Asked, frozen=True):
    """For how long the old key goes on working."""

    grace_seconds: Grace = 86_400


class BudgetCreate(Asked, frozen=True):
    """At least one of `tokens` and `micros` is given."""

    owner: Owner
    owner_id: Id
    period: Period
    tokens: Amount | None = None
    micros: Amount | None = None


class BudgetUpdate(Asked, frozen=True):
    tokens: Amount | UnsetType | None = UNSET
    micros: Amount | UnsetType | None = UNSET


class Project(msgspec.Struct, frozen=True):
    id: str
    name: str
    created_at: int
    archived_at: int | None
    limits: Limits
    cache: CacheSettings
    file_bytes: int | None
    status: Literal["active", "archived"]
    object: str = "organization.project"


class User(msgspec.Struct, frozen=True):
    id: str
    name: str
    email: str
    role: UserRole
    added_at: int
    object: str = "organization.user"


class Member(msgspec.Struct, frozen=True):
    """A user in a project."""

    id: str
    name: str
    email: str
    role: MemberRole
    added_at: int
    object: str = "organization.project.user"


class Key(msgspec.Struct, frozen=True):
    """`previous_until`: as long as that, the key before the last rotation works, too.

    `last_used_at` is known to the hour.
    """

    id: str
    name: str
    project: str
    user: str | None
    scopes: tuple[Scope, ...]
    models: tuple[str, ...]
    limits: Limits
    redacted_value: str
    bootstrap: bool
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    rotated_at: int | None
    previous_until: int | None
    last_used_at: int | None
    owner: Fields
    owner_project_access: Literal["active", "inactive"] = "active"
    object: str = "organization.project.api_key"


class FreshKey(Key, frozen=True, kw_only=True):
    """`value` is the key itself; nobody can read it again."""

    value: str


class BudgetObject(msgspec.Struct, frozen=True):
    id: str
    owner: Owner
    owner_id: str
    period: Period
    tokens: int | None
    micros: int | None
    created_at: int
    object: str = "budget"


class BudgetUse(msgspec.Struct, frozen=True):
    """What became of a budget in the period that runs now, in epoch seconds.

    `held` is for requests under way, and settled to what they use. `left` None: no limit.
    """

    from_at: int
    until_at: int | None
    tokens: int
    micros: int
    tokens_held: int
    micros_held: int
    tokens_left: int | None
    micros_left: int | None


class BudgetStanding(BudgetObject, frozen=True, kw_only=True):
    use: BudgetUse


class PriceObject(Price, frozen=True, kw_only=True):
    model: str
    changed_at: int
    object: str = "price"


class CacheStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What all projects keep together. `most_bytes` is the room, `largest_bytes` that of one
    answer, and an answer goes after `seconds`; the semantic cache has rooms of its own."""

    answers: int
    bytes: int
    most_bytes: int
    largest_bytes: int
    seconds: float
    semantic_answers: int
    semantic_bytes: int
    object: str = "cache"


class Purged(msgspec.Struct, frozen=True, kw_only=True):
    """How many answers went. None: of every project, or of every model."""

    project: str | None
    model: str | None
    exact: int
    semantic: int
    object: str = "cache.purged"


class Deleted(msgspec.Struct, frozen=True):
    id: str
    object: str
    deleted: bool = True


class Page(msgspec.Struct, frozen=True):
    """`first_id` and `last_id` are empty where the page is."""

    data: Rows
    first_id: str
    last_id: str
    has_more: bool
    object: str = "list"
