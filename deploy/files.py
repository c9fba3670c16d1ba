"""`aihub files`: list, upload, delete, content."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from deploy.admin import Admin, reach, table, when
from deploy.sending import Sender
from deploy.stream import ApiError, Client
from shared.settings import Settings
from shared.size import spell_size

PIECE = 1 << 20


def main(settings: Settings, options: argparse.Namespace) -> int:
    actions = {"list": show, "upload": upload, "delete": delete, "content": content}
    act = actions[options.action]
    return reach(settings, options, lambda client: act(client, options), below="")


def show(client: Client, options: argparse.Namespace) -> None:
    rows = [
        (
            one["id"],
            one["filename"],
            one["purpose"],
            spell_size(one["bytes"]) if one["bytes"] >= PIECE else f"{one['bytes']} B",
            when(one["created_at"]),
            when(one.get("expires_at")),
        )
        for one in Admin(client).listed("/files", purpose=options.purpose)
    ]
    table(("id", "name", "purpose", "size", "since", "until"), rows)


def upload(client: Client, options: argparse.Namespace) -> None:
    path = Path(options.path)
    try:
        with path.open("rb") as source:
            size = os.fstat(source.fileno()).st_size
            sender = Sender(client, path.name, source)
            print(sender.send(size, options.purpose, options.expires))
    except OSError as error:
        raise ApiError(f"{path} cannot be read: {error.strerror}") from error


def delete(client: Client, options: argparse.Namespace) -> None:
    Admin(client).send("DELETE", f"/files/{quote(options.which, safe='')}")
    print(f"{options.which} is deleted")


def content(client: Client, options: argparse.Namespace) -> None:
    if options.output is None:
        fetch(client, options.which, sys.stdout.buffer)
    else:
        save(client, options.which, Path(options.output))


def save(client: Client, id_: str, path: Path) -> None:
    """Whole or not at all; raises ApiError."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as target:
            fetch(client, id_, target)
        part.replace(path)
    except OSError as error:
        raise ApiError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


def fetch(client: Client, id_: str, target: BinaryIO) -> None:
    """Raises ApiError when not all of it came."""
    with client.exchange("GET", f"/files/{quote(id_, safe='')}/content") as reply:
        missing = reply.length
        while data := reply.read(PIECE):
            target.write(data)
            missing = None if missing is None else missing - len(data)
    if missing:
        raise ApiError(f"{id_} broke off: {missing} bytes are missing")
