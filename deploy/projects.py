"""`aihub projects`: list, create, limit, archive."""

from __future__ import annotations

import argparse

from deploy.admin import Admin, limited, limits, run, table, when
from shared.settings import Settings


def main(settings: Settings, options: argparse.Namespace) -> int:
    act = {"list": show, "create": create, "limit": limit, "archive": archive}[options.action]
    return run(settings, options, lambda admin: act(admin, options))


def show(admin: Admin, options: argparse.Namespace) -> None:
    archived = "true" if options.all else None
    rows = [
        (one["id"], one["name"], one["status"], limited(one["limits"]), when(one["created_at"]))
        for one in admin.listed("/projects", include_archived=archived)
    ]
    table(("id", "name", "status", "limits", "since"), rows)


def create(admin: Admin, options: argparse.Namespace) -> None:
    made = admin.send("POST", "/projects", {"name": options.name, "limits": limits(options)})
    print(made["id"])


def limit(admin: Admin, options: argparse.Namespace) -> None:
    id_ = admin.named("/projects", options.which)["id"]
    after = admin.send("PATCH", f"/projects/{id_}", {"limits": limits(options)})
    print(f"{id_} limits: {limited(after['limits'])}")


def archive(admin: Admin, options: argparse.Namespace) -> None:
    id_ = admin.named("/projects", options.which)["id"]
    admin.send("POST", f"/projects/{id_}/archive")
    print(f"{id_} is archived; its keys have ended")
