"""The query string of a list, and the page it asks for."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import parse_qsl

import msgspec

from shared.errors import InvalidRequest, InvalidType, InvalidValue, UnsupportedParameter
from shared.store.window import Window
from shared.wire.admin import Page

LARGEST_PAGE = 100
USUAL_PAGE = 20
LARGEST_NUMBER = 4_102_444_800


class Query:
    """Names and values; `ids[]` and `ids` are the same name."""

    def __init__(self, text: bytes, names: Sequence[str]) -> None:
        """Raises UnsupportedParameter for a name that is none of `names`."""
        self._values: dict[str, list[str]] = {}
        try:
            pairs = parse_qsl(text.decode("ascii"), keep_blank_values=True, max_num_fields=200)
        except (UnicodeDecodeError, ValueError):
            raise InvalidRequest("The query string cannot be read.") from None
        for name, value in pairs:
            plain = name.removesuffix("[]")
            if plain not in names:
                raise UnsupportedParameter(f"Unknown parameter: '{name}'.", param=name)
            if "\x00" in value:
                raise InvalidValue(f"Invalid value for '{plain}'.", param=plain)
            self._values.setdefault(plain, []).append(value)

    def one(self, name: str) -> str | None:
        """Raises InvalidValue when it is there more than once."""
        values = self._values.get(name, [])
        if len(values) > 1:
            raise InvalidValue(f"'{name}' is there more than once.", param=name)
        return values[0] if values else None

    def several(self, name: str) -> list[str] | None:
        """None: not asked for."""
        return self._values.get(name)

    def flag(self, name: str) -> bool:
        value = self.one(name)
        if value not in (None, "true", "false"):
            raise InvalidType(f"Invalid type for '{name}': expected true or false.", param=name)
        return value == "true"

    def number(self, name: str, least: int = 0, most: int = LARGEST_NUMBER) -> int | None:
        value = self.one(name)
        if value is None:
            return None
        if not (value.isascii() and value.isdigit() and len(value) <= 12):
            raise InvalidType(f"Invalid type for '{name}': expected an integer.", param=name)
        number = int(value)
        if not least <= number <= most:
            raise InvalidValue(
                f"Invalid value for '{name}': must be {least} to {most}.", param=name
            )
        return number

    def limit(self) -> int:
        return self.number("limit", 1, LARGEST_PAGE) or USUAL_PAGE

    def window(self) -> Window:
        """One entry more than the page, which tells whether there is another page."""
        order = self.one("order")
        if order not in (None, "asc", "desc"):
            raise InvalidValue("Invalid value for 'order': asc or desc.", param="order")
        return Window(self.limit() + 1, self.one("after"), order == "desc")


PAGE = ("limit", "after", "order")


def page(rows: Sequence[object], limit: int, identity: str = "id") -> Page:
    """Of at most `limit` + 1 rows."""
    shown = list(rows[:limit])
    names = [getattr(row, identity) for row in (shown[:1] + shown[-1:])] or ["", ""]
    return Page(shown, names[0], names[-1], len(rows) > limit)


def of_window(rows: Sequence[msgspec.Struct], window: Window, identity: str = "id") -> Page:
    return page(rows, window.limit - 1, identity)
