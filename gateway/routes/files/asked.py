"""What the fields of a form say of the file in it."""

from __future__ import annotations

import re
from typing import NamedTuple

from shared.errors import InvalidType, InvalidValue, MissingParameter
from shared.wire.openai.file import LATEST, LONGEST_NAME, PURPOSES, SOONEST, Purpose

ANCHOR, SECONDS = "expires_after[anchor]", "expires_after[seconds]"
ASKED = ("purpose", ANCHOR, SECONDS)
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class FileAsked(NamedTuple):
    filename: str
    purpose: Purpose
    seconds: int | None
    """Until it expires; None: never."""

    @classmethod
    def read(cls, fields: dict[str, str], filename: str) -> FileAsked:
        """Raises MissingParameter, InvalidType or InvalidValue."""
        for name, value in fields.items():
            check(name, value)
        if "purpose" not in fields:
            raise MissingParameter("Missing required parameter: 'purpose'.", param="purpose")
        for name, other in ((ANCHOR, SECONDS), (SECONDS, ANCHOR)):
            if name in fields and other not in fields:
                raise MissingParameter(f"Missing required parameter: '{other}'.", param=other)
        (purpose,) = (known for known in PURPOSES if known == fields["purpose"])
        return cls(filename, purpose, int(fields[SECONDS]) if SECONDS in fields else None)


def check(name: str, value: str) -> None:
    """One field; so that a wrong one is refused before the file behind it is read."""
    if name == "purpose" and value not in PURPOSES:
        allowed = ", ".join(PURPOSES)
        raise InvalidValue(f"Invalid value for 'purpose': allowed are {allowed}.", param=name)
    if name == ANCHOR and value != "created_at":
        raise InvalidValue(f"Invalid value for '{name}': allowed is created_at.", param=name)
    if name == SECONDS:
        if not (value.isascii() and value.isdigit() and len(value) <= 12):
            raise InvalidType(f"Invalid type for '{name}': expected an integer.", param=name)
        if not SOONEST <= int(value) <= LATEST:
            raise InvalidValue(
                f"Invalid value for '{name}': must be {SOONEST} to {LATEST}.", param=name
            )


def named(filename: str | None, param: str = "file") -> str:
    """The last part of a path, as browsers send; raises InvalidValue for no name."""
    name = re.split(r"[/\\]", filename or "")[-1].strip()
    if name in ("", ".", "..") or CONTROL.search(name) or len(name) > LONGEST_NAME:
        raise InvalidValue(
            f"Invalid value for '{param}': the name of the file must have 1 to {LONGEST_NAME}"
            " characters, none of them a control character.",
            param=param,
        )
    return name
