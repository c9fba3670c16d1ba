"""Generated tokens as text that may be given away. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

UNFINISHED = "\ufffd"
"""What a decoder writes for bytes that are no whole character."""


class Spelling:
    """Turns tokens into text, one at a time; `before` are the tokens in front of them.

    A token's text can depend on the one before it, and a character can take several tokens.
    """

    def __init__(self, decode: Callable[[list[int]], str], before: Sequence[int] = ()) -> None:
        self._decode = decode
        self._ids = list(before[-8:])
        self._told = len(self._ids)

    def feed(self, token: int) -> str:
        """The text that became whole."""
        self._ids.append(token)
        return self._rest(closing=False)

    def close(self) -> str:
        """What is left when no token follows."""
        return self._rest(closing=True)

    def _rest(self, *, closing: bool) -> str:
        before = self._decode(self._ids[: self._told]) if self._told else ""
        text = self._decode(self._ids)
        if (text.endswith(UNFINISHED) and not closing) or len(text) <= len(before):
            return ""
        self._ids = self._ids[self._told :] if self._told else self._ids
        self._told = len(self._ids)
        return text[len(before) :]


class Stops:
    """Withholds what may be the beginning of a stop string; none of one is ever given."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.met = False

    def feed(self, text: str) -> str:
        """What of the text so far may be given; afterwards `met` tells whether to stop."""
        if not self._stops:
            return text
        text = self._held + text
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.met = True
            self._held = ""
            return text[: min(found)]
        kept = max(self._beginning(text, stop) for stop in self._stops)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]

    def close(self) -> str:
        held, self._held = self._held, ""
        return held

    @staticmethod
    def _beginning(text: str, stop: str) -> int:
        """Characters at the end of `text` that `stop` begins with."""
        longest = min(len(text), len(stop) - 1)
        return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
