"""`aihub models status`, `load`, `unload`, `pin` and `unpin`: the running hub's models."""

from __future__ import annotations

import argparse
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TextIO
from urllib.parse import quote

import msgspec

from deploy import key, welcome
from deploy.admin import Admin, Fields, run
from deploy.model_table import progress, render
from deploy.stream import ApiError, Client
from shared.settings import Settings
from shared.size import spell_size
from shared.wire.status import LONGEST_WAIT, ModelStatus, ModelStatuses, Status

LOOK_EVERY = 0.2
WATCH_EVERY = 1.0
GLANCE = 2.0
"""Seconds that the list of models waits for a hub."""
CLEAR = "\x1b[H\x1b[J"


def main(settings: Settings, options: argparse.Namespace) -> int:
    """Exit status 1 when the hub refuses or does not answer, or a load fails."""
    act = {"status": show, "load": load, "unload": unload, "pin": change, "unpin": change}
    chosen = act[options.action]
    return run(settings, options, lambda admin: chosen(admin, options), "/models")


def show(admin: Admin, options: argparse.Namespace) -> None:
    while True:
        answer = asked(admin, options.name)
        if options.json:
            text = msgspec.json.format(msgspec.json.encode(answer)).decode()
        else:
            lines = render(msgspec.convert(answer, Status))
            text = "\n".join(fitted(lines, sys.stdout)).rstrip()
        if options.watch and sys.stdout.isatty():
            text = CLEAR + text
        print(text, flush=True)
        if not options.watch:
            return
        time.sleep(WATCH_EVERY)


def fitted(lines: Iterable[str], stream: TextIO) -> Iterator[str]:
    """No longer than the terminal is wide, if it is one."""
    width = shutil.get_terminal_size().columns if stream.isatty() else None
    for line in lines:
        yield line if width is None or len(line) <= width else f"{line[: width - 1]}…"


def load(admin: Admin, options: argparse.Namespace) -> None:
    fields: Fields = {"pin": options.pin, "wait": LONGEST_WAIT}
    model = msgspec.convert(follow(admin, "/load", options, fields), ModelStatus)
    size = model.bytes.measured
    held = "" if size is None else f", {spell_size(size)} measured"
    pinned = ", pinned" if model.pinned else ""
    print(f"{options.name} is {model.state} on {model.device} of {model.worker}{held}{pinned}")


def unload(admin: Admin, options: argparse.Namespace) -> None:
    fields: Fields = {"wait": LONGEST_WAIT}
    tell(options.name, msgspec.convert(follow(admin, "/unload", options, fields), ModelStatuses))


def change(admin: Admin, options: argparse.Namespace) -> None:
    answer = admin.send("POST", f"/{options.action}", body(options))
    tell(options.name, msgspec.convert(answer, ModelStatuses))


def tell(name: str, models: ModelStatuses) -> None:
    for model in models.data:
        pinned = ", pinned" if model.pinned else ""
        held = "" if model.held is None else f"; {model.held}"
        print(f"{name} is {model.state} on {model.device} of {model.worker}{pinned}{held}")


def body(options: argparse.Namespace) -> Fields:
    where = {} if options.worker is None else {"worker": options.worker}
    return {"model": options.name, **where}


def asked(admin: Admin, name: str | None) -> Fields:
    return admin.send("GET", "/status" + (f"?model={quote(name)}" if name is not None else ""))


def follow(admin: Admin, path: str, options: argparse.Namespace, more: Fields) -> Fields:
    """Sends an order that is answered when it is done, and shows how far it is meanwhile."""
    order = Sent(admin, path, {**body(options), **more})
    order.start()
    line = Line(sys.stderr)
    try:
        while order.is_alive():
            order.join(LOOK_EVERY)
            if order.is_alive():
                line.show(going(msgspec.convert(asked(admin, options.name), Status)))
    finally:
        line.clear()
    return order.result()


class Sent(threading.Thread):
    """One request, whose answer takes its time; it does not keep the program from leaving."""

    def __init__(self, admin: Admin, path: str, fields: Fields) -> None:
        super().__init__(daemon=True)
        self._admin = admin
        self._path = path
        self._fields = fields
        self._answer: Fields | ApiError = ApiError("not answered")

    def run(self) -> None:
        try:
            self._answer = self._admin.send("POST", self._path, self._fields)
        except ApiError as error:
            self._answer = error

    def result(self) -> Fields:
        if isinstance(self._answer, ApiError):
            raise self._answer
        return self._answer


class Line:
    """One line that is written over; where nobody looks, a new one when the words change."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._began = time.monotonic()
        self._last = ""
        self._first = (0.0, 0)
        """When bytes were seen first, and how many."""

    def show(self, text: tuple[str, int]) -> None:
        """Words, and bytes read so far."""
        words, read = text
        if not words:
            return
        if self._live:
            line = f"{words}{self._rate(read)}, {time.monotonic() - self._began:.0f} s"
            self._stream.write(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}")
        elif words != self._last:
            self._stream.write(f"{words}\n")
        self._last = words
        self._stream.flush()

    def _rate(self, read: int) -> str:
        """Since bytes were seen first."""
        now = time.monotonic()
        if read and not self._first[1]:
            self._first = (now, read)
        since, before = self._first
        return f", {(read - before) / (now - since) / 1e6:.0f} MB/s" if read > before else ""

    def clear(self) -> None:
        if self._live and self._last:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def going(status: Status) -> tuple[str, int]:
    """Where a model is on its way, on the worker where most happens."""
    models = [model for worker in status.workers for model in worker.models]
    moving = [model for model in models if model.asked or model.state in ("loading", "draining")]
    if not moving:
        return "", 0
    model = min(moving, key=lambda one: (one.state == "absent", one.worker))
    words = [f"{model.model} {model.state}"]
    if model.state == "draining" and model.serving:
        words.append(f"serves {model.serving}")
    if model.progress is not None:
        words.append(progress(model))
    if model.held is not None:
        words.append(model.held)
    return ", ".join(words), model.progress.read if model.progress is not None else 0


def states(settings: Settings) -> Mapping[str, str] | None:
    """How each model stands with the hub of these settings; None where none answers."""
    found = key.find(settings)
    base = welcome.base_url(settings).removesuffix("/v1")
    secret = None if found is None else found.value
    try:
        client = Client(f"{base}/api/v1/models", secret, timeout=GLANCE)
        status = msgspec.convert(asked(Admin(client), None), Status)
    except ApiError:
        return None
    told: dict[str, list[str]] = {name: ["unserved"] for name in status.unserved}
    for model in (model for worker in status.workers for model in worker.models):
        told.setdefault(model.model, []).append(model.state)
    return {name: ", ".join(dict.fromkeys(each)) for name, each in told.items()}
