"""`aihub cache`: show, purge."""

from __future__ import annotations

import argparse
from urllib.parse import urlencode

from deploy.admin import Admin, run
from shared.settings import Settings
from shared.size import spell_size


def main(settings: Settings, options: argparse.Namespace) -> int:
    act = {"show": show, "purge": purge}[options.action]
    return run(settings, options, lambda admin: act(admin, options))


def show(admin: Admin, options: argparse.Namespace) -> None:
    it = admin.send("GET", "/cache")
    room = f"{spell_size(it['bytes'])} of {spell_size(it['most_bytes'])}"
    print(f"exact     {it['answers']} answers, {room}, kept for {it['seconds']:g} s")
    print(f"semantic  {it['semantic_answers']} answers, {spell_size(it['semantic_bytes'])}")


def purge(admin: Admin, options: argparse.Namespace) -> None:
    asked = {"model": options.model} if options.model is not None else {}
    if options.project is not None:
        found = admin.named("/projects", options.project, include_archived="true")
        asked["project"] = found["id"]
    gone = admin.send("DELETE", f"/cache?{urlencode(asked)}")
    print(f"{gone['exact']} exact and {gone['semantic']} semantic answers are gone")
