"""What a caller wants of the cache, by its headers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from shared.errors import InvalidValue

ANY_AGE = -1
LONGEST = 10**9
"""Seconds of max-age that mean no more than for ever."""


class Terms(NamedTuple):
    """`asked`: also for an answer that another try would not repeat. `look`: an answer that is
    kept will do, if no older than `oldest_ms`. `keep`: the computed one may be kept."""

    asked: bool = False
    look: bool = True
    keep: bool = True
    oldest_ms: int = ANY_AGE

    @property
    def off(self) -> bool:
        return not self.look and not self.keep


USUAL = Terms()
OWN = {
    b"use": Terms(asked=True),
    b"refresh": Terms(asked=True, look=False),
    b"off": Terms(look=False, keep=False),
}


def read(headers: Mapping[bytes, bytes]) -> Terms:
    """x-aihub-cache decides, else Cache-Control; raises InvalidValue."""
    own = headers.get(b"x-aihub-cache")
    if own is not None:
        try:
            return OWN[own.strip().lower()]
        except KeyError:
            raise InvalidValue(
                "Invalid value for the header x-aihub-cache. Allowed are"
                f" {', '.join(name.decode() for name in OWN)}.",
                param="x-aihub-cache",
            ) from None
    control = headers.get(b"cache-control")
    return USUAL if control is None else read_control(control)


def read_control(control: bytes) -> Terms:
    """Cache-Control of a request; what is not for us or cannot be read is passed over."""
    terms = USUAL
    for directive in control.lower().split(b","):
        name, _, value = directive.strip().partition(b"=")
        if name == b"no-store":
            return OWN[b"off"]
        if name == b"no-cache":
            terms = terms._replace(look=False)
        elif name == b"max-age" and value.isdigit():
            seconds = min(int(value), LONGEST)
            terms = terms._replace(
                asked=True, oldest_ms=seconds * 1000, look=terms.look and seconds > 0
            )
    return terms
