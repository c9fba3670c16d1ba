"""One service over its lives: running, dead and waiting for its next start, ready or not yet."""

from __future__ import annotations

import time
from typing import NamedTuple

from deploy import backoff
from deploy.child import Child
from deploy.logfile import LogFile
from deploy.service import Service

LOG_INTERVAL = 5.0
LONGEST_ASK = 0.5
"""Seconds between two questions whether a slow service is ready; a quick one is asked each turn."""


class Died(NamedTuple):
    status: int
    pause: float
    """Seconds until the next start."""


class Unit:
    def __init__(self, service: Service, log: LogFile) -> None:
        self.service = service
        self.name = service.name
        self.log = log
        self.lacks = "it did not answer"
        self.was_ready = False
        self.just_ready = False
        self.deaths = 0
        self._child: Child | None = None
        self._started = 0.0
        self._ready_at: float | None = None
        self._pause = 0.0
        self._again_at: float | None = None
        self._log_checked = 0.0
        self._ask_at = 0.0
        self._asked_at: float | None = None

    def start(self, now: float) -> None:
        service = self.service
        self._started, self._ready_at, self._again_at = now, None, None
        self._child = Child(
            service.argv,
            self.log,
            env=service.env,
            orphaned=service.orphaned or service.stop,
            user=service.user,
        )

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    @property
    def ready(self) -> bool:
        return self._ready_at is not None

    @property
    def took(self) -> float:
        """Seconds from the start to readiness."""
        return (self._ready_at or self._started) - self._started

    @property
    def gone(self) -> bool:
        return self._child is None or self._child.exit() is not None

    def check(self, now: float) -> Died | None:
        """Notice a death, start again when the pause is over, ask whether it is ready."""
        self.just_ready = False
        if self._child is None:
            if self._again_at is not None and now >= self._again_at:
                self.start(now)
            return None
        status = self._child.exit()
        if status is not None:
            return self._died(status, now)
        if not self.ready and now >= self._ask_at:
            self._ask_at = now + min(LONGEST_ASK, (now - self._started) / 20)
            missing = self.service.missing()
            if missing is None:
                self._ready_at = time.monotonic()
                self.was_ready = self.just_ready = True
            else:
                self.lacks = missing
        return None

    def _died(self, status: int, now: float) -> Died:
        served = now - self._ready_at if self._ready_at is not None else 0.0
        self._pause = backoff.pause(self._pause, served)
        self._again_at = now + self._pause
        self._child, self._ready_at = None, None
        self.deaths += 1
        return Died(status, self._pause)

    def overdue(self, now: float) -> bool:
        running = self._child is not None and not self.ready
        return running and now - self._started > self.service.within

    def log_bound(self, now: float) -> None:
        if now - self._log_checked > LOG_INTERVAL:
            self._log_checked = now
            self.log.bound()

    def ask_to_stop(self) -> None:
        """Also ends its restarts."""
        self._again_at = None
        if self._child is not None:
            self._child.signal(self.service.stop)
            self._asked_at = time.monotonic()

    def hurry(self, now: float) -> None:
        """Asks again, once, when the service's own patience with its clients is too long."""
        patience = self.service.hurry
        if patience is None or self._child is None or self._asked_at is None:
            return
        if now - self._asked_at >= patience:
            self._asked_at = None
            self._child.signal_group(self.service.stop)

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()

    def wait(self) -> None:
        while not self.gone:
            time.sleep(0.005)
