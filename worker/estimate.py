"""How many bytes to reserve for a load: by its files, corrected by earlier loads on this device."""

from __future__ import annotations

import asyncio

import psycopg
from psycopg_pool import PoolTimeout, TooManyRequests

from shared import log
from shared.db import Pool
from shared.estimate import Estimate, estimate
from shared.footprint import Footprint, Key, Reservation, reserve
from shared.load import load_of, weights_path
from shared.settings import Model, Settings
from shared.store import footprint
from shared.weights import read

logger = log.get("estimate")

AWAY = (psycopg.Error, PoolTimeout, TooManyRequests)


class Estimator:
    """`device` is the kind of device, e.g. its product name: loads on others do not count."""

    def __init__(self, pool: Pool, settings: Settings, device: str) -> None:
        self._pool = pool
        self._settings = settings
        self._device = device

    async def reservation(self, name: str, model: Model) -> tuple[Estimate, Reservation]:
        """What to ask the ledger for. Raises WeightsError where the files do not say.

        While the database is away the estimate stands uncorrected, and the log says so.
        """
        found = await asyncio.to_thread(self._estimate, name, model)
        try:
            seen = await footprint.find(self._pool, self._key(name, model))
        except AWAY as error:
            logger.warning("measured sizes cannot be read", model=name, error=str(error))
            seen = None
        return found, reserve(found, seen)

    async def record(
        self, name: str, model: Model, estimate: Estimate, *, loaded: int, peak: int, requests: int
    ) -> None:
        """Keep what a load was measured to hold, for the next one. Call it when the model leaves.

        `loaded` was measured when it was ready, `peak` is the largest reading; 0 or less means
        that nothing could be measured, and nothing is kept.
        """
        if loaded <= 0:
            return
        seen = Footprint(
            weights=estimate.weights,
            adapters=estimate.adapters,
            loaded=loaded,
            peak=max(peak, loaded),
            requests=requests,
        )
        try:
            await footprint.record(self._pool, self._key(name, model), seen)
        except AWAY as error:
            logger.warning("a measured size is lost", model=name, peak=peak, error=str(error))

    def _estimate(self, name: str, model: Model) -> Estimate:
        weights = read(weights_path(name, model, self._settings))
        return estimate(weights, load_of(model, self._settings))

    def _key(self, name: str, model: Model) -> Key:
        return Key(self._device, name, model.engine, model.context, model.parallel)
