"""What a worker's journal of decisions tells those who do not know its rules."""

from __future__ import annotations

import msgspec

FOLDER = "decisions"
"""In the state folder: NAME.jsonl for what moved models, NAME.admissions.jsonl for the rest."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """The head of one line; the worker that wrote it knows what follows."""

    number: int
    """Counts up, restarts included."""
    wall_ms: int
    """Epoch milliseconds."""
    rules: int
    """Goes up when the scheduler decides otherwise."""
    models: tuple[str, ...]
    text: str
    """What was decided and why."""


decode_line = msgspec.json.Decoder(Line).decode
