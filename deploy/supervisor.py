"""Starts services in order, watches them, restarts those that die, and stops all of them.

Everything happens in one thread. Each call of `turn` is one step of the loop: reap, restart,
ask the new ones whether they are ready. What is started together is stopped together, the last
started first.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from deploy import linux
from deploy.child import describe
from deploy.console import Console
from deploy.logfile import LogFile
from deploy.service import Service
from deploy.step import Step
from deploy.unit import Died, Unit

STOP_WITHIN = 4.5
"""Seconds for an orderly stop of everything; what then remains is killed."""
STAGE_SHARE = 0.6
"""The part of what is left of it that one stage may take, but for the last."""
TURN = 0.05
SLOW_TURN = 0.5
FIRST_DEATHS = 4
"""Deaths before a service was ever ready that end the start."""


class Interrupted(Exception):
    """A signal asked the supervisor to stop."""


class StartFailed(Exception):
    """A service or step did not come up; `log` holds its last lines."""

    def __init__(self, name: str, reason: str, log: LogFile) -> None:
        super().__init__(f"{name} {reason}")
        self.tail = log.tail()
        self.path = log.path


class Supervisor:
    def __init__(self, logs: Path, console: Console) -> None:
        """Use one a process: it takes over SIGINT, SIGTERM, SIGHUP and SIGCHLD."""
        self._logs = logs
        self._console = console
        self._stages: list[list[Unit]] = []
        self._steps: list[Step] = []
        self._asked = 0
        self._raise = False
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        linux.adopt_orphans()
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._ask)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked += 1
        if self._raise:
            self._raise = False
            raise Interrupted

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Around a blocking call: a signal raises Interrupted out of it."""
        if self._asked:
            raise Interrupted
        self._raise = True
        try:
            yield
        finally:
            self._raise = False

    def start(self, *services: Service) -> None:
        """Start these at once, as one stage."""
        stage: list[Unit] = []
        self._stages.append(stage)
        for service in services:
            unit = Unit(service, LogFile(self._logs / f"{service.name}.log"))
            unit.log.rotate()
            stage.append(unit)
            unit.start(time.monotonic())

    def step(self, name: str, argv: Sequence[str], env: Mapping[str, str]) -> Step:
        """Start a process that ends by itself; its output lines become progress lines."""
        log = LogFile(self._logs / f"{name}.log")
        log.rotate()
        step = Step(name, argv, env, log)
        self._steps.append(step)
        return step

    def until_done(self, step: Step) -> None:
        """Raises StartFailed when the step fails, Interrupted when a signal comes."""
        self._until(lambda: step.status is not None)
        if step.status:
            raise StartFailed(step.name, describe(step.status), step.log)

    def until_ready(self, *names: str) -> None:
        """Raises StartFailed when one of these (default: all) does not come up in its bound."""
        waited = [u for u in self._units() if not names or u.name in names]
        self._until(lambda: all(unit.ready for unit in waited))

    def watch(self) -> None:
        """Keep everything running until a signal comes."""
        while not self._asked:
            self.turn()

    def _until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            if self._asked:
                raise Interrupted
            self.turn(brisk=True)

    def _units(self) -> list[Unit]:
        return [unit for stage in self._stages for unit in stage]

    def turn(self, brisk: bool = False) -> None:
        """One step of the loop; sleeps when nothing happens, shortly if `brisk`."""
        now = time.monotonic()
        self._relay()
        for unit in self._units():
            died = unit.check(now)
            if died is not None:
                self._mourn(unit, died)
            elif unit.just_ready:
                self._console.line(unit.name, f"ready after {unit.took:.1f} s")
            elif unit.overdue(now):
                self._give_up(unit)
            unit.log_bound(now)
        self._bury_orphans()
        busy = any(not unit.ready for unit in self._units()) or self._unfinished()
        self._sleep(TURN if busy or brisk else SLOW_TURN)

    def _mourn(self, unit: Unit, died: Died) -> None:
        if not unit.was_ready and unit.deaths >= FIRST_DEATHS:
            raise StartFailed(unit.name, describe(died.status), unit.log)
        if unit.was_ready:
            why = "".join(f"\n{'':10} {line}" for line in unit.log.tail(3))
            text = f"{describe(died.status)}; starts again in {died.pause:.1f} s{why}"
            self._console.line(unit.name, text)

    def _give_up(self, unit: Unit) -> None:
        reason = f"was not ready within {unit.service.within:g} s: {unit.lacks}"
        if not unit.was_ready:
            raise StartFailed(unit.name, reason, unit.log)
        self._console.line(unit.name, f"{reason}; it is killed and started again")
        unit.kill()

    def _relay(self) -> None:
        for step in self._unfinished():
            for line in step.lines():
                self._console.line(step.name, line)

    def _unfinished(self) -> list[Step]:
        return [step for step in self._steps if step.status is None]

    def _bury_orphans(self) -> None:
        """Descendants whose parent died come to us: they have nobody to serve any more."""
        ours = {unit.pid for unit in self._units()} | {step.pid for step in self._unfinished()}
        for pid in linux.children():
            if pid not in ours:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    def _sleep(self, seconds: float) -> None:
        select.select([self._reader, *(s.output for s in self._unfinished())], [], [], seconds)
        try:
            os.read(self._reader, 4096)
        except BlockingIOError:
            return

    def stop(self) -> None:
        """End everything, within STOP_WITHIN seconds; a signal meanwhile makes it kill at once."""
        deadline = time.monotonic() + STOP_WITHIN
        patience = self._asked
        for step in self._unfinished():
            step.kill()
        for count, stage in enumerate(reversed(self._stages), start=1):
            left = deadline - time.monotonic()
            bound = left if count == len(self._stages) else left * STAGE_SHARE
            self._stop_stage(stage, time.monotonic() + bound, patience)
        self._bury_orphans()

    def _stop_stage(self, stage: list[Unit], deadline: float, patience: int) -> None:
        for unit in stage:
            unit.ask_to_stop()
        while time.monotonic() < deadline and self._asked <= patience:
            if all(unit.gone for unit in stage):
                return
            for unit in stage:
                unit.hurry(time.monotonic())
            self._sleep(TURN)
        for unit in stage:
            if not unit.gone:
                self._console.line(unit.name, "did not stop in time and is killed")
                unit.kill()
                unit.wait()
