"""An engine with adapters and clients that ask for one after another, on a simulated clock."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from itertools import count

from worker.rotation import Loaded, Move, Rotation, decide, usual

Policy = Callable[[Rotation, float], Move]


class Held:
    def __init__(self, since: float) -> None:
        self.since = self.used = since
        self.users = 0
        self.closed = False


class Circle:
    """`clients` ask in a closed loop: in a circle, or at random with a `seed`.

    Always checked: the bound holds, and what is unloaded has no user.
    """

    def __init__(
        self,
        adapters: int,
        bound: int,
        clients: int,
        *,
        serve: float = 0.2,
        load: float = 1.0,
        places: int = 4,
        together: bool = True,
        seed: int | None = None,
        policy: Policy = decide,
    ) -> None:
        self.now = 0.0
        self.served = 0
        self.loads = 0
        self.longest = 0.0
        self.waiting: dict[int, float] = {}
        """Clients that have no answer yet, and since when."""
        self._serve, self._load, self._places = serve, load, places
        self._bound, self._together, self._policy = bound, together, policy
        self._names = [str(number) for number in range(adapters)]
        self._dice = random.Random(seed or 0)
        self._random = seed is not None
        self._next = {client: client * 7 % adapters for client in range(clients)}
        self._held: dict[str, Held] = {}
        self._lines: dict[str, list[int]] = {}
        self._since: dict[str, float] = {}
        self._asked: dict[str, float] = {}
        self._every: dict[str, float | None] = {}
        self._queue: list[tuple[int, str]] = []
        self._active = 0
        self._loading = False
        self._round_at = -1e9
        self._numbers = count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        for client in range(clients):
            self._ask(client)

    def run(self, seconds: float) -> float:
        """Requests served per second."""
        self._step()
        while self._events and self._events[0][0] <= seconds:
            self.now, _, happens = heapq.heappop(self._events)
            happens()
            self._step()
        self.now = seconds
        return self.served / seconds

    def _at(self, time: float, happens: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time, next(self._numbers), happens))

    def _ask(self, client: int) -> None:
        at = self._next[client]
        name = self._names[at]
        step = self._dice.randrange(len(self._names)) if self._random else at + 1
        self._next[client] = step % len(self._names)
        self.waiting[client] = self.now
        if name in self._asked:
            gap = self.now - self._asked[name]
            self._every[name] = usual(self._every.get(name), gap, self._load)
        self._asked[name] = self.now
        held = self._held.get(name)
        if held is not None and not held.closed:
            self._take(client, name)
        else:
            self._since.setdefault(name, self.now)
            self._lines.setdefault(name, []).append(client)

    def _take(self, client: int, name: str) -> None:
        self._held[name].users += 1
        self._held[name].used = self.now
        self._queue.append((client, name))

    def _admit(self, name: str) -> None:
        self._since.pop(name, None)
        for client in self._lines.pop(name, []):
            self._take(client, name)

    def _end(self, client: int, name: str) -> None:
        self._active -= 1
        self._held[name].users -= 1
        self._held[name].used = self.now
        self.served += 1
        self.longest = max(self.longest, self.now - self.waiting.pop(client))
        self._ask(client)

    def _step(self) -> None:
        if not self._loading:
            self._move()
        while self._queue and self._active < self._places:
            client, name = self._queue.pop(0)
            self._active += 1
            seconds = self._serve * self._dice.uniform(0.8, 1.2)
            self._at(self.now + seconds, lambda c=client, n=name: self._end(c, n))  # type: ignore[misc]

    def _rotation(self) -> Rotation:
        return Rotation(
            bound=self._bound,
            loaded={
                name: Loaded(
                    since=held.since,
                    used=held.used,
                    users=held.users,
                    every=self._every.get(name),
                    closed=held.closed,
                )
                for name, held in self._held.items()
            },
            wanted=dict(self._since),
            load_seconds=self._load,
            round_at=self._round_at,
            together=self._together,
        )

    def _move(self) -> None:
        move = self._policy(self._rotation(), self.now)
        for name in move.close:
            self._held[name].closed = True
            self._round_at = self.now
        for name in move.reopen:
            self._held[name].closed = False
            self._admit(name)
        if not move.load:
            if move.next_at is not None:
                assert move.next_at > self.now
                self._at(move.next_at, lambda: None)
            return
        for name in move.unload:
            assert self._held.pop(name).users == 0
        assert len(self._held) + len(move.load) <= self._bound
        assert not set(move.load) & set(self._held)
        self._loading = True
        self.loads += 1
        cost = 1 if self._together else len(move.load)
        self._at(self.now + self._load * cost, lambda: self._loaded(move.load))

    def _loaded(self, names: tuple[str, ...]) -> None:
        self._loading = False
        for name in names:
            self._held[name] = Held(self.now)
            self._admit(name)
