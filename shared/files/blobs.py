"""Where the bytes are. A blob is written once, appears whole, and is never changed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from shared.errors import HubError, Unavailable

READ_SIZE = 256 * 1024
"""Bytes of one piece on the way out."""
WRITE_SIZE = 1024 * 1024
"""Bytes gathered before a disk is written to."""


class Draft(Protocol):
    """A blob that nobody can read yet."""

    async def write(self, data: bytes) -> None:
        """Raises Unavailable when it cannot be stored."""
        ...

    async def land(self) -> None:
        """Makes it durable under its name; raises Unavailable."""
        ...

    async def drop(self) -> None:
        """Lets go of a draft that will not land, and of what it has open."""
        ...


class Blobs(Protocol):
    async def draft(self, name: str) -> Draft:
        """Raises Unavailable."""
        ...

    def read(self, name: str, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """Bytes [start, end) in pieces; raises Lost, or Unavailable."""
        ...

    async def delete(self, name: str) -> None:
        """The blob and its draft, if there are any; raises Unavailable."""
        ...

    async def close(self) -> None: ...


class Lost(HubError):
    """The row is there and the bytes are not."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The bytes of {name} are gone from the file store.")


def unstored(error: Exception) -> Unavailable:
    return Unavailable(f"The file could not be stored: {reason(error)}.", retry_after=5)


def unread(error: Exception) -> Unavailable:
    return Unavailable(f"The file store cannot be read: {reason(error)}.", retry_after=5)


def away() -> Unavailable:
    """For a store on the network; the log says what it said."""
    return Unavailable("The file store does not answer.", retry_after=5)


def reason(error: Exception) -> str:
    """Without the paths of this machine."""
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__
