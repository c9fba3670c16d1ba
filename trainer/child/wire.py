"""Reports out, orders in. Standard output is for reports alone."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Literal

import msgspec

from trainer.plan import ORDERS
from trainer.report import Report

Reason = Literal["pause", "cancel", "stop"]


class Wire:
    """`say` writes a line; a thread of its own reads orders."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.stood = 0.0
        """Seconds that it was held."""
        # Libraries print: what they say goes to standard error, the pipe stays ours.
        self._out = os.dup(1)
        os.dup2(2, 1)
        self._changed = threading.Condition()
        self._reason: Reason | None = None
        self._held = False
        self._lock = threading.Lock()

    def listen(self) -> None:
        threading.Thread(target=self._read, name="orders", daemon=True).start()

    def say(self, report: Report) -> None:
        line = msgspec.json.encode(report) + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._out, line) :]

    @property
    def reason(self) -> Reason | None:
        """Why it is to stop, if so: the gravest order so far."""
        with self._changed:
            return self._reason

    @property
    def held(self) -> bool:
        """Whether it is to stand still here; an order to stop ends that."""
        with self._changed:
            return self._held and self._reason is None

    def wait_while_held(self) -> None:
        begun = time.monotonic()
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._reason is not None)
        self.stood += time.monotonic() - begun

    def _read(self) -> None:
        for line in sys.stdin:
            order = line.strip()
            if order in ORDERS:
                self._obey(order)
            elif order:
                print(f"unknown order {order[:40]!r}", file=sys.stderr, flush=True)

    def _obey(self, order: str) -> None:
        with self._changed:
            if order in ("hold", "go"):
                self._held = order == "hold"
            elif self._reason != "cancel":
                self._reason = order  # type: ignore[assignment]
            self._changed.notify_all()
