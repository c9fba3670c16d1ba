"""Every path of the administrators' API, ours and OpenAI's."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from litestar.handlers import ASGIRouteHandler

from gateway.cache.caches import Caches
from gateway.exchange import Exchange
from gateway.front import Front, not_allowed
from gateway.routes.admin import audits, budgets, projects, semantic_caches, usage, users
from gateway.routes.admin.api_keys import KeyRoutes
from gateway.routes.admin.budgets import BudgetReading
from gateway.routes.admin.caches import CacheRoutes
from gateway.routes.admin.desk import Desk, Read, Write
from gateway.routes.admin.prices import PriceRoutes
from shared.catalog import Catalog

OURS = ("/api/v1/admin",)
OPENAI = ("/v1/organization", "/api/v1/organization")
BOTH = (*OURS, *OPENAI)


class Resource(NamedTuple):
    """What the methods do at one path below each of `bases`."""

    bases: tuple[str, ...]
    path: str
    get: Read | None = None
    post: Write | None = None
    patch: Write | None = None
    put: Write | None = None
    delete: Write | None = None

    @property
    def writes(self) -> dict[str, Write]:
        given = {"POST": self.post, "PATCH": self.patch, "PUT": self.put, "DELETE": self.delete}
        return {method: write for method, write in given.items() if write is not None}


def resources(catalog: Catalog, caches: Caches, read: BudgetReading) -> list[Resource]:
    keys, prices, kept = KeyRoutes(catalog), PriceRoutes(catalog), CacheRoutes(caches)
    one, member = "/projects/{project}", "/projects/{project}/users/{user}"
    p, u, b = projects, users, budgets
    return [
        Resource(BOTH, "/projects", p.select, p.create),
        Resource(BOTH, one, p.find, p.update, p.update, delete=kept.delete),
        Resource(BOTH, f"{one}/archive", post=kept.archive),
        Resource(
            OURS,
            f"{one}/semantic_cache",
            semantic_caches.find,
            delete=partial(semantic_caches.purge, caches=caches),
        ),
        Resource(OURS, f"{one}/semantic_cache/restart", post=semantic_caches.restart),
        Resource(BOTH, f"{one}/users", p.select_members, p.add_member),
        Resource(
            BOTH, member, p.find_member, p.update_member, p.update_member, delete=p.remove_member
        ),
        Resource(BOTH, f"{one}/api_keys", keys.select_of_project),
        Resource(BOTH, f"{one}/api_keys/{{key}}", keys.find, delete=keys.delete),
        Resource(OPENAI, f"{one}/service_accounts", keys.select_services, keys.create_service),
        Resource(
            OPENAI,
            f"{one}/service_accounts/{{key}}",
            keys.find_service,
            delete=keys.delete_service,
        ),
        Resource(BOTH, "/users", u.select, u.create),
        Resource(BOTH, "/users/{user}", u.find, u.update, u.update, delete=u.delete),
        Resource(OPENAI, "/admin_api_keys", keys.select_admins, keys.create_admin),
        Resource(OPENAI, "/admin_api_keys/{key}", keys.find_admin, delete=keys.delete_admin),
        Resource(OURS, "/keys", keys.select, keys.create),
        Resource(OURS, "/keys/{key}", keys.find, keys.update, keys.update, delete=keys.delete),
        Resource(OURS, "/keys/{key}/rotate", post=keys.rotate),
        Resource(OURS, "/budgets", read.select, b.create),
        Resource(OURS, "/budgets/{budget}", read.find, b.update, b.update, delete=b.delete),
        Resource(OURS, "/prices", prices.select),
        Resource(OURS, "/prices/{model*}", prices.find, put=prices.put, delete=prices.delete),
        Resource(OURS, "/cache", kept.find, delete=kept.purge),
        Resource(OURS, "/usage/months", usage.months),
        Resource(OURS, "/usage/months/{month}", delete=usage.drop_month),
        *(Resource(OPENAI, path, usage.teller(kind)) for path, kind in usage.KINDS.items()),
        Resource(OURS, "/audit", audits.select),
        Resource(OPENAI, "/audit_logs", audits.select),
    ]


def match(template: str, path: str) -> dict[str, str] | None:
    """The ids that a path has where the template has `{name}`; `{name*}` takes the rest."""
    ids: dict[str, str] = {}
    wanted, given = template.split("/"), path.split("/")
    if wanted[-1].endswith("*}") and len(given) > len(wanted):
        given[len(wanted) - 1 :] = ["/".join(given[len(wanted) - 1 :])]
    if len(wanted) != len(given):
        return None
    for part, text in zip(wanted, given, strict=True):
        if part.startswith("{") and text:
            ids[part.strip("{*}")] = text
        elif part != text:
            return None
    return ids


class AdminRoute:
    """Everything below one of the bases."""

    def __init__(self, desk: Desk, base: str, below: list[Resource]) -> None:
        self._desk = desk
        self._base = base
        self._below = [resource for resource in below if base in resource.bases]

    async def __call__(self, exchange: Exchange) -> None:
        resource = self._find(exchange)
        write = resource.writes.get(exchange.method)
        if write is not None:
            await self._desk.write(exchange, write)
        elif resource.get is not None and exchange.method in ("GET", "HEAD"):
            await self._desk.read(exchange, resource.get)
        else:
            allowed = ", ".join([*(["GET"] if resource.get else []), *resource.writes])
            exchange.extra.append((b"allow", allowed.encode()))
            raise not_allowed(exchange.method, allowed)

    def _find(self, exchange: Exchange) -> Resource:
        path = exchange.path.removeprefix(self._base).rstrip("/")
        for resource in self._below:
            ids = match(resource.path, path)
            if ids is not None:
                exchange.parameters = ids
                return resource
        raise exchange.unknown()


def routes(
    front: Front, desk: Desk, catalog: Catalog, caches: Caches, budgets: BudgetReading
) -> list[ASGIRouteHandler]:
    every = resources(catalog, caches, budgets)
    return [
        front.route(
            "admin",
            [base],
            ("GET", "POST", "PATCH", "PUT", "DELETE"),
            AdminRoute(desk, base, every),
            needs="admin",
            reads="admin.read",
            is_mount=True,
        )
        for base in BOTH
    ]
