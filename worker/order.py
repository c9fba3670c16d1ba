"""What administrators order: posted to the loop, and answered with what came of it at once."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from shared import keys, log
from shared.clock import Clock
from shared.errors import HubError, InvalidValue, ModelNotFound
from shared.resp import Link
from shared.wire.event import Order, Ordered
from worker.loop import Loop
from worker.occasion import LoadAsked, Pin, UnloadAsked
from worker.report import Report

encode = msgspec.msgpack.Encoder().encode

logger = log.get("order")


class Orders:
    """Obeys them in the order in which they come; each is answered under a key of its own."""

    def __init__(self, link: Link, loop: Loop, report: Report, clock: Clock) -> None:
        self._link = link
        self._loop = loop
        self._report = report
        self._clock = clock

    def obey(self, order: Order) -> None:
        answer = self.carry_out(order)
        why = answer.failed.message if answer.failed is not None else ""
        logger.info("order", what=order.what, model=order.model, refused=why)
        said = self._link.call("SET", keys.order(order.id), encode(answer), "PX", keys.ORDER_MS)
        said.add_done_callback(unheard)

    def carry_out(self, order: Order) -> Ordered:
        """Posts the order; the answer tells the state that it led to, or why it is refused."""
        refused: HubError | None
        before = None
        if order.model in self._loop.residents:
            before = self._report.model(order.model)
            refused = self._loop.order(occasion(order, self._loop.now)) or self._adapt(order)
        else:
            refused = ModelNotFound(f"This worker has no model {order.model!r}.", param="model")
        now = self._clock.wall_ms()
        if refused is not None:
            return Ordered(now, failed=refused.failed())
        return Ordered(now, self._report.model(order.model), before=before)

    def _adapt(self, order: Order) -> HubError | None:
        """Has the adapter loaded, too, if one is wanted; why it cannot be."""
        if order.adapter is None:
            return None
        adapters = self._loop.adapters.get(order.model)
        if adapters is None:
            return InvalidValue(f"The engine of {order.model} takes no adapters.", param="model")
        try:
            adapters.bring(order.adapter)
        except HubError as error:
            return error
        return None


def occasion(order: Order, now: float) -> LoadAsked | UnloadAsked | Pin:
    match order.what:
        case "load":
            return LoadAsked(now, order.model)
        case "unload":
            return UnloadAsked(now, order.model)
        case "pin" | "unpin":
            return Pin(now, order.model, order.what == "pin")


def unheard(said: asyncio.Future[Any]) -> None:
    """Who ordered asks for the answer until its time is up."""
    if not said.cancelled() and (error := said.exception()) is not None:
        logger.warning("an order's answer was not delivered", error=str(error))
