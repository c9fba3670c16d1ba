"""An answer as it is kept: the items of its reply, told again in one piece or as a stream."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from shared.answer import Assembly
from shared.wire.event import (
    Answer,
    Choice,
    Delta,
    Done,
    Finish,
    Item,
    Text,
    Usage,
    Vectors,
)

ITEM = 6
"""Bytes an item takes beyond its texts, about."""


class Kept(msgspec.Struct, array_like=True, frozen=True):
    """`created` is epoch seconds. One Answer or Vectors, or all items of a stream with its Done."""

    created: int
    items: list[Item]


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Kept).decode
to_json = msgspec.json.Encoder().encode


class Tape:
    """What went by on a stream, up to `most` bytes."""

    def __init__(self, most: int) -> None:
        self._room = most
        self._items: list[Item] = []

    def add(self, items: Iterable[Item]) -> None:
        for item in items:
            if isinstance(item, Text):
                self._room -= ITEM + len(item.text)
            elif isinstance(item, Delta):
                self._room -= ITEM + len(item.delta) + len(item.logprobs) + len(item.raw or "")
            elif isinstance(item, Finish | Done):
                self._room -= ITEM
            else:
                continue
            if self._room < 0:
                self._items.clear()
                return
            self._items.append(item)

    def kept(self, created: int) -> Kept | None:
        """None unless all of it is there and it ended well."""
        whole = bool(self._items) and self._room >= 0 and isinstance(self._items[-1], Done)
        return Kept(created, self._items) if whole else None


def in_one(kept: Kept) -> Answer | Vectors:
    """The reply in one piece."""
    first = kept.items[0]
    if isinstance(first, Answer | Vectors):
        return first
    choices: dict[int, Assembly] = {}
    reasons: dict[int, str] = {}
    usage = Usage()
    for item in kept.items:
        if isinstance(item, Text):
            choices.setdefault(item.choice, Assembly()).text(item.text)
        elif isinstance(item, Delta):
            choices.setdefault(item.choice, Assembly()).delta(item.delta, item.logprobs)
        elif isinstance(item, Finish):
            choices.setdefault(item.choice, Assembly())
            reasons[item.choice] = item.reason
        elif isinstance(item, Done):
            usage = item.usage
    return Answer([choices[index].choice(reasons[index]) for index in sorted(reasons)], usage)


def in_pieces(kept: Kept) -> Sequence[Item]:
    """The items of a stream."""
    first = kept.items[0]
    if not isinstance(first, Answer):
        return kept.items
    items: list[Item] = []
    for index, choice in enumerate(first.choices):
        items += pieces(index, choice)
    return [*items, Done(first.usage)]


def pieces(index: int, choice: Choice) -> Iterable[Item]:
    if choice.reasoning is not None:
        yield Delta(index, None, to_json({"reasoning_content": choice.reasoning}))
    if choice.logprobs:
        text = choice.text or ""
        yield Delta(index, text, to_json({"content": text}), choice.logprobs)
    elif choice.text:
        yield Text(index, choice.text)
    if choice.tool_calls:
        calls = msgspec.json.decode(choice.tool_calls, type=list[dict[str, object]])
        numbered = [{"index": number, **call} for number, call in enumerate(calls)]
        yield Delta(index, None, to_json({"tool_calls": numbered}))
    yield Finish(index, choice.reason, Usage())


def text_of(kept: Kept) -> str | None:
    """What its only choice says; None where it says more, or calls a tool."""
    answer = in_one(kept)
    if isinstance(answer, Vectors) or len(answer.choices) != 1:
        return None
    choice = answer.choices[0]
    return choice.text if not choice.tool_calls else None
