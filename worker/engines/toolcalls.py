"""Tool calls in OpenAI's shape, out of forced JSON or out of the engine's own fragments. Pure."""

from __future__ import annotations

import json
import secrets

import msgspec

from shared.errors import EngineFailed

MOST_CALLS = 128


class Function(msgspec.Struct, omit_defaults=True):
    name: str | None = None
    arguments: str | None = None


class Fragment(msgspec.Struct, omit_defaults=True):
    """One entry of `delta.tool_calls`."""

    index: int
    id: str | None = None
    type: str | None = None
    function: Function | None = None


class CallsDelta(msgspec.Struct):
    tool_calls: list[Fragment]


def call_id() -> str:
    return "call_" + secrets.token_hex(12)


def opening(index: int, name: str, arguments: str = "", identity: str = "") -> Fragment:
    """The first fragment of a call; clients take the id and the name from it."""
    return Fragment(index, identity or call_id(), "function", Function(name, arguments))


class CallReader:
    """Reads `{"name": "...", "arguments": {...}}` as it is generated, split anywhere.

    Gives the call's opening once the name is whole, then the text of `arguments` as it comes.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._quoted = False
        self._escaped = False
        self._word = ""
        self._key = ""
        self._inside = False
        self._pending = ""
        """Generated text that no delta carries yet."""

    def feed(self, text: str) -> list[tuple[str, CallsDelta]]:
        """What `text` adds: deltas, each with the generated text up to its end."""
        given: list[tuple[str, CallsDelta]] = []
        arguments = ""
        for letter in text:
            self._pending += letter
            inside = self._inside
            name = self._step(letter)
            if name is not None:
                given.append((self._carry(), CallsDelta([opening(0, name)])))
            if inside or self._inside:
                arguments += letter
        if arguments:
            piece = Fragment(0, function=Function(arguments=arguments))
            given.append((self._carry(), CallsDelta([piece])))
        return given

    def skip(self, text: str) -> None:
        """Read what an earlier attempt generated and gave."""
        self.feed(text)
        self._pending = ""

    def _carry(self) -> str:
        pending, self._pending = self._pending, ""
        return pending

    def _step(self, letter: str) -> str | None:
        """Follow one character; returns the call's name when it closes."""
        if self._quoted:
            return self._step_quoted(letter)
        if letter == '"':
            self._quoted = True
            self._word = ""
        elif letter in "{[":
            self._depth += 1
            if self._depth == 2 and self._key == "arguments":
                self._inside = True
        elif letter in "}]":
            self._depth -= 1
            if self._depth == 1:
                self._inside = False
        elif letter == "," and self._depth == 1:
            self._key = ""
        return None

    def _step_quoted(self, letter: str) -> str | None:
        if self._escaped:
            self._escaped = False
        elif letter == "\\":
            self._escaped = True
        elif letter == '"':
            self._quoted = False
            if self._depth != 1:
                return None
            word = str(json.loads(f'"{self._word}"'))
            if not self._key:
                self._key = word
            elif self._key == "name":
                return word
            return None
        if self._depth == 1:
            self._word += letter
        return None


class CallStream:
    """The engine's own fragments, every call opened with an id and its name."""

    def __init__(self) -> None:
        self._open: set[int] = set()

    def pass_on(self, fragment: Fragment) -> Fragment:
        """The fragment as clients expect it; raises EngineFailed beyond MOST_CALLS calls."""
        if fragment.index in self._open:
            return fragment
        if len(self._open) >= MOST_CALLS:
            raise EngineFailed("The engine made too many tool calls at once.")
        self._open.add(fragment.index)
        function = fragment.function or Function()
        return opening(
            fragment.index, function.name or "", function.arguments or "", fragment.id or ""
        )
