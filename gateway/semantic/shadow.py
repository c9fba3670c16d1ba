"""The trial of a cache that serves: some hits are computed all the same, and compared."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Literal

from gateway.semantic import bound
from gateway.semantic.cache import AWAY
from gateway.semantic.judge import Outcome
from shared import log
from shared.db import Connection, Pool, transaction
from shared.metrics import Counter
from shared.store import audit, semantic
from shared.store.audit import Actor, Change
from shared.wire.account import SemanticCache as Settings
from shared.wire.semantic import SemanticStatus, Trial

AT_ONCE = 4
"""Checks a gateway process runs at one time; a hit beyond that goes unchecked."""
WATCHMAN = "aihub"
"""The actor of what the hub does by itself."""

logger = log.get("semantic")
Judge = Callable[[], Awaitable[Outcome | None]]
State = Literal["off", "turned_off", "unproven", "proven"]


class Shadow:
    def __init__(self, pool: Callable[[], Pool | None], chance: Callable[[], float]) -> None:
        """`chance` draws from [0, 1)."""
        self._pool = pool
        self._chance = chance
        self._running: set[asyncio.Task[None]] = set()
        self.checks = Counter(
            "aihub_semantic_checks_total",
            "Hits of semantic caches that were computed as well, by how the answers compare.",
            ("outcome",),
        )
        self.turned_off = Counter(
            "aihub_semantic_turned_off_total",
            "Semantic caches that checks of this process turned off.",
        )

    async def check(self, project: str, settings: Settings, hit: int, judge: Judge) -> bool:
        """Starts a check of one hit in the background if its turn has come; whether it did.

        `judge` computes the answer in the batch class and compares; None: it could not.
        """
        pool = self._pool()
        if pool is None or len(self._running) >= AT_ONCE:
            return False
        try:
            async with pool.connection() as connection:
                trial = await semantic.find_trial(connection, project)
        except AWAY as error:
            logger.warning("cannot check", project=project, error=str(error))
            return False
        share = bound.checked_share(trial.checked, settings.bound, settings.shadow)
        if len(self._running) >= AT_ONCE or self._chance() >= share:
            return False
        check = asyncio.create_task(self._check(pool, project, settings, hit, judge))
        self._running.add(check)
        check.add_done_callback(self._running.discard)
        return True

    async def drain(self) -> None:
        """Waits for the checks that run."""
        await asyncio.gather(*self._running)

    async def stop(self) -> None:
        """Drops the checks that run."""
        for check in self._running:
            check.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _check(
        self, pool: Pool, project: str, settings: Settings, hit: int, judge: Judge
    ) -> None:
        try:
            outcome = await judge()
            if outcome is None:
                return
            self.checks.add(1, (outcome,))
            if await count(pool, project, settings.bound, hit, outcome):
                self.turned_off.add()
        except AWAY as error:
            logger.warning("check not counted", project=project, error=str(error))
        except Exception:
            logger.exception("check broke", project=project)


def by_chance() -> float:
    return random.random()


async def count(pool: Pool, project: str, limit: float, hit: int, outcome: Outcome) -> bool:
    """Adds one check to a project's trial; True: that turned the cache off, being above `limit`.

    The answer that was wrong goes at once. Turning off leaves an audit row and a log line.
    """
    wrong = outcome == "different"
    async with transaction(pool) as connection:
        trial = await semantic.count_check(connection, project, wrong=wrong)
        if wrong:
            await semantic.drop(connection, project, hit)
        reason = bound.reason_to_turn_off(trial.wrong, trial.checked, limit)
        off = reason is not None and await semantic.turn_off(connection, project, reason)
        if off:
            actor = Actor(WATCHMAN, session=False, request="")
            change = Change("semantic_cache.turned_off", project, None, trial, project)
            await audit.insert(connection, actor, change)
    if off:
        logger.warning("semantic cache turned off", project=project, reason=reason)
    return off


async def status(connection: Connection, project: str, settings: Settings) -> SemanticStatus:
    trial = await semantic.find_trial(connection, project)
    answers, size = await semantic.measure(connection, project)
    return SemanticStatus(
        project=project,
        state=state(trial, settings),
        bound=settings.bound,
        upper_bound=bound.upper_bound(trial.wrong, trial.checked),
        required=bound.required(settings.bound),
        trial=trial,
        answers=answers,
        bytes=size,
    )


def state(trial: Trial, settings: Settings) -> State:
    if not settings.enabled:
        return "off"
    if trial.off_since is not None:
        return "turned_off"
    proven = bound.upper_bound(trial.wrong, trial.checked) <= settings.bound
    return "proven" if proven else "unproven"
