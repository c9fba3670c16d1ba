"""The end of a job: off the queue, its hold settled, its line of the ledger written, at once.

Whoever ends it says what it used; who is dead is spoken for by the last words that it left.
"""

from __future__ import annotations

from typing import NamedTuple

from shared import keys, usage_stream
from shared.script import LinkLike, Script
from shared.wire import event, usage
from shared.wire.usage import UsageEvent

_finish = Script("event", "finish")
_settle = Script("clock", "tally", "hold", "event", "finish")
_abort = Script("clock", "tally", "hold", "event", "abort")
_conclude = Script("clock", "tally", "hold", "event", "conclude")


class Bill(NamedTuple):
    """What to settle a hold to: tokens and micro-units of money."""

    hold: bytes
    tokens: int
    micros: int


async def finish(
    link: LinkLike,
    worker: str,
    queue: str,
    id_: str,
    used: bytes | None = None,
    bill: Bill | None = None,
    *,
    blind: bool = False,
) -> bool:
    """Removes an ended job, settles its hold and writes down what it `used`.

    `blind`: this worker could not learn what earlier attempts did, so the last words of these
    count. False when the lease was not ours: then nothing was done.
    """
    held, tokens, micros = bill or (b"", 0, 0)
    script = _settle if held else _finish
    state = await script.run(
        link,
        names(queue, id_),
        (id_, worker, used or b"", usage_stream.MOST_EVENTS, held, tokens, micros, int(blind)),
    )
    if state == 2 and used is not None:
        usage_stream.lament(used)
    return bool(state)


async def conclude(link: LinkLike, id_: str, used: bytes, bill: Bill | None) -> None:
    """Settles the hold of a job that is another worker's now and writes down what it `used`."""
    tokens, micros = (0, 0) if bill is None else bill[1:]
    names = (keys.USAGE, keys.USAGE_LOST, keys.HOLD + id_, keys.HOLDS)
    if not await _conclude.run(link, names, (id_, used, usage_stream.MOST_EVENTS, tokens, micros)):
        usage_stream.lament(used)


async def abort(link: LinkLike, queue: str, id_: str, used: UsageEvent | None = None) -> int:
    """Cancels a job wherever it is: 2 dropped from the queue, 1 its worker was told, 0 unknown.

    `used` is what is known of it here, which counts unless a worker lives that knows better.
    """
    cancel = event.encode(event.Cancel(id_))
    data, tokens, micros, words = b"", 0, 0, b""
    if used is not None:
        data, words = usage.encode(used), last_words(used)
        tokens, micros = used.tokens_in + used.tokens_out, used.micros
    state: int = await _abort.run(
        link,
        names(queue, id_),
        (
            *(id_, cancel, keys.CONTROL_MS, keys.control("")),
            *(data, usage_stream.MOST_EVENTS, tokens, micros, words, keys.WORDS_MS),
        ),
    )
    if state == 3:
        usage_stream.lament(data)
    return min(state, 2)


def last_words(used: UsageEvent) -> bytes:
    """For when those who count a job are dead: its line in the ledger as it is now."""
    tokens = used.tokens_in + used.tokens_out
    return b"%d %d %b" % (tokens, used.micros, usage.encode(used))


def names(queue: str, id_: str) -> tuple[str, ...]:
    """The keys of a job that ends."""
    job = (keys.JOB + id_, keys.IN_PROGRESS + id_, keys.RETRY + id_)
    hold = (keys.HOLD + id_, keys.HOLDS, keys.WORDS + id_)
    return (queue, *job, keys.ABORT, keys.USAGE, keys.USAGE_LOST, *hold)
