"""The loop of steps: one token for every request that runs, a piece of a prompt between them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

import torch

from worker.engines.transformers_child.running import Chunk, Running

Said = tuple[Running, Chunk]


class Stepper(Protocol):
    """What of model.Language the loop needs."""

    def step(
        self, first: int, tokens: list[list[int]], places: list[int], names: list[str]
    ) -> torch.Tensor: ...

    def move(self, source: int, target: int, length: int) -> None: ...


class Batch:
    """Slots 0 to n - 1 hold those that generate, slot n the one whose prompt is being read.

    `run` is the body of the one thread that touches the model. `deliver` is called there, with
    what a step gave. Whoever submits bounds how many wait.
    """

    def __init__(
        self, model: Stepper, slots: int, piece: int, deliver: Callable[[list[Said]], None]
    ) -> None:
        self._model = model
        self._slots = slots
        self._piece = piece
        self._deliver = deliver
        self._waiting: deque[Running] = deque()
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._changed = threading.Condition()
        self._generating: list[Running] = []
        self._reading: Running | None = None

    def submit(self, running: Running) -> None:
        with self._changed:
            self._waiting.append(running)
            self._changed.notify()

    def cancel(self, running: Running) -> None:
        """Its slot is free before the next step."""
        with self._changed:
            running.cancelled = True
            self._changed.notify()

    def call(self, function: Callable[[], Any]) -> Future[Any]:
        """Have the model's thread do something between two steps."""
        future: Future[Any] = Future()
        with self._changed:
            self._calls.append((function, future))
            self._changed.notify()
        return future

    def run(self) -> None:
        """Does not return; raises what a step raises, which the process must not survive."""
        while True:
            self._wait()
            self._perform()
            with torch.inference_mode():
                self._drop()
                self._admit()
                self._read()
                self._generate()

    def _wait(self) -> None:
        with self._changed:
            while not (self._waiting or self._calls or self._generating or self._reading):
                self._changed.wait()

    def _perform(self) -> None:
        while self._calls:
            function, future = self._calls.popleft()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function())
                except Exception as error:  # noqa: BLE001 - it is for who asked
                    future.set_exception(error)

    def _drop(self) -> None:
        """Free the slots of those that are over."""
        if self._reading is not None and over(self._reading):
            self._reading = None
        for at in reversed(range(len(self._generating))):
            if over(self._generating[at]):
                self._leave(at)

    def _leave(self, at: int) -> None:
        last = self._generating.pop()
        if at < len(self._generating):
            self._model.move(len(self._generating), at, last.done)
            self._generating[at] = last
        if self._reading is not None:
            self._model.move(len(self._generating) + 1, len(self._generating), self._reading.done)

    def _admit(self) -> None:
        while self._waiting and self._reading is None and len(self._generating) < self._slots:
            first = self._waiting.popleft()
            if first.cancelled:
                continue
            if over(first):
                self._deliver([(first, first.closing())])
                continue
            self._reading = first

    def _read(self) -> None:
        """The next piece of a prompt; its last one gives the first token."""
        reading = self._reading
        if reading is None:
            return
        end = min(reading.done + self._piece, len(reading.ids))
        rows = [(reading, reading.ids[reading.done : end])]
        logits = self._step(len(self._generating), rows)
        if logits is None or reading.done < len(reading.ids):
            return
        self._reading = None
        self._generating.append(reading)
        self._give([(reading, logits[0])])

    def _generate(self) -> None:
        rows = [one for one in self._generating if not over(one)]
        if not rows or len(rows) < len(self._generating):
            return
        logits = self._step(0, [(one, one.ids[one.done :]) for one in rows])
        if logits is not None:
            self._give(list(zip(rows, logits, strict=True)))

    def _step(self, first: int, rows: list[tuple[Running, list[int]]]) -> torch.Tensor | None:
        try:
            logits = self._model.step(
                first,
                [ids for _, ids in rows],
                [one.done for one, _ in rows],
                [one.adapter for one, _ in rows],
            )
        except torch.OutOfMemoryError as error:
            said = {"message": f"out of memory: {error}"[:300], "code": 500}
            for one, _ in rows:
                one.cancelled = True
            self._deliver([(one, {"error": said}) for one, _ in rows])
            return None
        for one, ids in rows:
            one.done += len(ids)
        return logits

    def _give(self, rows: list[tuple[Running, torch.Tensor]]) -> None:
        said = [(one, one.take(logits)) for one, logits in rows]
        self._deliver([(one, chunk) for one, chunk in said if chunk is not None])


def over(running: Running) -> bool:
    return running.cancelled or running.reason is not None
