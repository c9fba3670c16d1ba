"""What a trainer and the worker of its device say to each other about room on the device.

A trainer repeats its wish, the worker its word, every second: what is not repeated is over.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """Room for one job. `fence` is the number of the trainer's claim on it: a later one is
    another wish."""

    job: str
    fence: int
    bytes: int
    wants: bool
    """It waits for the room, or has it and keeps it."""
    holding: bool
    """Its child runs, or is about to."""
    pid: int = 0
    """Of its child."""
    at_ms: int
    """When it was said, on this machine's clock: wishes go no further."""

    @property
    def name(self) -> str:
        """What the worker's books and decisions call it."""
        return f"training:{self.job}#{self.fence}"


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to the wish of that name."""

    name: str
    state: Literal["waiting", "granted", "revoked", "refused"]
    """revoked: the room is wanted for models; the child is to go behind its step."""
    pressed: bool = False
    """Requests are served or wait on the device now: the child is to stand still."""
    why: str = ""
    never: bool = False
    """refused: the device is too small; else what may not go is in the way."""
    bytes: int = 0
    """refused: how many were asked for."""


encode_wish = msgspec.msgpack.Encoder().encode
decode_wish = msgspec.msgpack.Decoder(Wish).decode
encode_word = msgspec.msgpack.Encoder().encode
decode_word = msgspec.msgpack.Decoder(Word).decode
