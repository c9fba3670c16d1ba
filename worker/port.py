"""The queue, as the loop sees it."""

from __future__ import annotations

from typing import Protocol

from shared.errors import HubError


class Port(Protocol):
    """Lines of requests, one for each model."""

    def admit(self, model: str, count: int) -> None:
        """Take up to so many waiting requests; those not taken are given back by `Loop.end`."""

    def refuse(self, model: str, error: HubError, *, elsewhere: bool) -> None:
        """Answer all who wait with an error, or, `elsewhere`, have another worker try that can.

        `Loop.turn_away` is for those whom no queue knows.
        """

    def changed(self) -> None:
        """Some model came into another state."""

    def offer(self, model: str) -> None:
        """A model is new; its line is looked at from now on."""

    def forget(self, model: str) -> None:
        """The model is forgotten, and its line with it."""
