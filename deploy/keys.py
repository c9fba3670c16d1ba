"""`aihub keys`: list, create, rotate, revoke. A new key alone goes to standard output."""

from __future__ import annotations

import argparse
import sys

from deploy.admin import Admin, Fields, limited, limits, run, table, when
from shared.settings import Settings


def main(settings: Settings, options: argparse.Namespace) -> int:
    act = {"list": show, "create": create, "rotate": rotate, "revoke": revoke}[options.action]
    return run(settings, options, lambda admin: act(admin, options))


def show(admin: Admin, options: argparse.Namespace) -> None:
    names = {one["id"]: one["name"] for one in admin.listed("/projects", include_archived="true")}
    project = None
    if options.project is not None:
        project = admin.named("/projects", options.project, include_archived="true")["id"]
    revoked = "true" if options.all else None
    keys = list(admin.listed("/keys", project=project, include_revoked=revoked))
    head = ("id", "name", "key", "project", "scopes", "models", "limits", "until")
    table(head, [row(key, names) for key in keys])


def row(key: Fields, projects: dict[str, str]) -> list[str]:
    until = when(key["expires_at"])
    if key["revoked_at"] is not None:
        until = f"revoked {when(key['revoked_at'])}"
    return [
        key["id"],
        key["name"],
        key["redacted_value"],
        str(projects.get(key["project"], key["project"])),
        ",".join(key["scopes"]),
        ",".join(key["models"]) or "all",
        limited(key["limits"]),
        until,
    ]


def create(admin: Admin, options: argparse.Namespace) -> None:
    asked: Fields = {
        "name": options.name,
        "scopes": options.scope or ["inference"],
        "models": options.model or [],
        "limits": limits(options),
        "expires_in_seconds": options.expires,
    }
    if options.project is not None:
        asked["project"] = admin.named("/projects", options.project)["id"]
    made = admin.send("POST", "/keys", asked)
    reveal(made, "it is shown this once")


def rotate(admin: Admin, options: argparse.Namespace) -> None:
    id_ = admin.named("/keys", options.which)["id"]
    made = admin.send("POST", f"/keys/{id_}/rotate", {"grace_seconds": options.grace})
    reveal(made, f"it is shown this once; the old one works until {when(made['previous_until'])}")


def revoke(admin: Admin, options: argparse.Namespace) -> None:
    id_ = admin.named("/keys", options.which)["id"]
    admin.send("DELETE", f"/keys/{id_}")
    print(f"{id_} is revoked")


def reveal(key: Fields, words: str) -> None:
    print(f"{key['id']} {key['name']!r}; {words}:", file=sys.stderr)
    print(key["value"])
