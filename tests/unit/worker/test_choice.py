"""A generation from request to items, with engines that break on the way."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import EngineFailed, InvalidValue
from shared.wire.event import (
    Answer,
    Choice,
    Delta,
    Done,
    Failed,
    Finish,
    Item,
    Position,
    Progress,
    Started,
    Text,
    Usage,
)
from tests.unit.worker.scripted import Place, Scripted, breaks, says
from worker.choice import spread, together
from worker.engines.base import EngineLost, Generation, Sink
from worker.functions import chat
from worker.meter import total

LOST = EngineLost("gone")


async def run(place: Place, request: object) -> list[Item]:
    await chat({"request": request})
    return place.items()


async def test_a_stream() -> None:
    place = Place(Scripted(says("a", "b")))
    started, *rest = await run(place, place.request())
    assert isinstance(started, Started)
    usage = Usage(5, 2)
    assert rest == [Text(0, "a"), Text(0, "b"), Finish(0, "stop", usage), Done(usage)]
    assert [entry.index for entry in place.entries()] == list(range(5))


async def test_one_piece() -> None:
    place = Place(Scripted(says("a", "b", reason="length")))
    _, answer = await run(place, place.request(streamed=False))
    assert answer == Answer([Choice("ab", "length")], Usage(5, 2))


async def test_what_the_engine_is_asked() -> None:
    engine = Scripted(says("a"))
    place = Place(engine)
    await run(place, place.request(top_p=0.3, seed=None))
    (asked,) = engine.asked
    assert asked.body["temperature"] == 0.5
    assert asked.body["top_p"] == 0.3
    assert "seed" not in asked.body


async def test_choices_run_at_once_and_the_prompt_counts_once() -> None:
    engine = Scripted(says("a", "b"))
    place = Place(engine)
    items = await run(place, place.request(n=3, seed=10))
    assert items[-1] == Done(Usage(5, 6))
    assert sorted(i.choice for i in items if isinstance(i, Finish)) == [0, 1, 2]
    assert [g.body["seed"] for g in engine.asked] == [10, 11, 12]
    assert all("n" not in g.body for g in engine.asked)


async def test_a_choice_that_fails_takes_the_others_with_it() -> None:
    left = asyncio.Event()

    async def waits(generation: Generation, sink: Sink) -> Usage:
        try:
            await asyncio.Event().wait()
        finally:
            left.set()
        return Usage()

    place = Place(Scripted(waits, breaks(InvalidValue("no", param="x"), "a")))
    items = await run(place, place.request(n=2))
    assert left.is_set()
    failed = items[-1]
    assert isinstance(failed, Failed)
    assert (failed.status, failed.param, failed.message) == (400, "x", "no")


@pytest.mark.usefixtures("hasty")
async def test_an_engine_that_breaks_is_followed_by_another() -> None:
    engine = Scripted(breaks(LOST, "a", "b"), breaks(LOST), says("c"))
    place = Place(engine)
    items = await run(place, place.request())
    assert [i.text for i in items if isinstance(i, Text)] == ["a", "b", "c"]
    assert [(g.resume, g.pieces) for g in engine.asked] == [("", 0), ("ab", 2), ("ab", 2)]
    assert items[-1] == Done(Usage(5, 3))


@pytest.mark.usefixtures("hasty")
async def test_a_request_wears_out_only_so_many_engines() -> None:
    engine = Scripted(breaks(LOST))
    place = Place(engine)
    items = await run(place, place.request())
    assert isinstance(items[-1], Failed)
    assert len(engine.asked) == 4


@pytest.mark.usefixtures("hasty")
async def test_an_engine_that_dies_behind_the_end_is_not_asked_for_more() -> None:
    engine = Scripted(breaks(LOST, "a", "b", reason="stop"), says("too much"))
    place = Place(engine)
    items = await run(place, place.request())
    usage = Usage(completion=2)
    assert items[1:] == [Text(0, "a"), Text(0, "b"), Finish(0, "stop", usage), Done(usage)]
    assert len(engine.asked) == 1


async def test_what_cannot_be_continued_fails_unless_it_had_ended() -> None:
    def calls(reason: str | None) -> Scripted:
        async def play(generation: Generation, sink: Sink) -> Usage:
            sink.delta(None, b'{"tool_calls":[]}', b"")
            return await breaks(LOST, reason=reason)(generation, sink)

        return Scripted(play)

    place = Place(calls(None))
    assert isinstance((await run(place, place.request()))[-1], Failed)
    place = Place(calls("tool_calls"))
    items = await run(place, place.request())
    assert isinstance(items[1], Delta)
    assert isinstance(items[-1], Done)


async def test_a_later_attempt_goes_on_where_the_reply_stands() -> None:
    engine = Scripted(says("c"))
    place = Place(engine)
    request = place.request(attempt=2, n=2)
    before = {0: Progress("ab", 2), 1: Progress("whole", 1, Usage(5, 1))}
    request.tell_position(Position("job-1", 2, 5, before))
    items = await run(place, request)
    assert items == [Text(0, "c"), Finish(0, "stop", Usage(5, 3)), Done(Usage(5, 4))]
    assert place.entries()[0].index == 5
    assert [g.resume for g in engine.asked] == ["ab"]


async def test_a_later_attempt_of_what_was_complete_only_says_so() -> None:
    engine = Scripted(says("too much"))
    place = Place(engine)
    request = place.request(attempt=2)
    before = {0: Progress("ab", 2, Usage(5, 2))}
    request.tell_position(Position("job-1", 2, 4, before, broken=True))
    assert await run(place, request) == [Done(Usage(5, 2))]
    assert not engine.asked


async def test_a_later_attempt_of_what_cannot_be_continued_fails() -> None:
    place = Place(Scripted(says("c")))
    request = place.request(attempt=2)
    request.tell_position(Position("job-1", 2, 4, {0: Progress("", 1)}, broken=True))
    assert isinstance((await run(place, request))[-1], Failed)


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a", ["a"]),
        (["a", "b"], ["a", "a", "b", "b"]),
        ([1, 2], [[1, 2]]),
        ([[1], [2]], [[1], [1], [2], [2]]),
    ],
)
def test_prompts_are_spread(prompt: object, prompts: list[object]) -> None:
    count = 2 if len(prompts) > 1 else 1
    bodies, each = spread("completion", json.dumps({"prompt": prompt, "n": count}).encode())
    assert ([body["prompt"] for body in bodies], each) == (prompts, count)


def test_no_prompt_at_all_is_refused() -> None:
    with pytest.raises(InvalidValue):
        spread("completion", b'{"prompt":[]}')


@given(st.integers(1, 4), st.integers(1, 4))
def test_each_prompt_counts_once(prompts: int, choices: int) -> None:
    usages = [Usage(10 + p, 3, p, 1) for p in range(prompts) for _ in range(choices)]
    count = prompts * choices
    each = sum(range(prompts))
    assert total(usages, choices) == Usage(10 * prompts + each, 3 * count, each, count)


async def test_the_first_error_is_raised_as_it_is() -> None:
    async def fails() -> Usage:
        raise EngineFailed("one")

    async def waits() -> Usage:
        await asyncio.Event().wait()
        return Usage()

    with pytest.raises(EngineFailed, match="one"):
        await together([waits(), fails()])


class Held:
    """A source that flows whatever it is told."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Mortal(Scripted):
    """Breaks under everyone in it as soon as a request says `poison`; others stay until then
    or, `alone`, are answered.
    """

    def __init__(self) -> None:
        super().__init__(says())
        self.inside = 0
        self.full = asyncio.Event()
        self.died = asyncio.Event()

    async def generate(self, generation: Generation, sink: Sink) -> Usage:
        self.asked.append(generation)
        sink.attach(Held())
        self.inside += 1
        try:
            if self.inside == 2:
                self.full.set()
            if not self.full.is_set():
                await self.full.wait()
            if "poison" in generation.body:
                self.died.set()
                raise LOST
            if self.inside == 2:
                await self.died.wait()
                raise LOST
            return await says("a", "b")(generation, sink)
        finally:
            self.inside -= 1


@pytest.mark.usefixtures("hasty")
async def test_a_request_that_breaks_engines_before_its_first_word_gets_two() -> None:
    async def breaks_at_once(generation: Generation, sink: Sink) -> Usage:
        sink.attach(Held())
        raise LOST

    engine = Scripted(breaks_at_once)
    place = Place(engine)
    assert isinstance((await run(place, place.request()))[-1], Failed)
    assert len(engine.asked) == 2


@pytest.mark.usefixtures("hasty")
async def test_a_stream_outlives_many_engines_that_others_broke() -> None:
    async def says_one_and_breaks(generation: Generation, sink: Sink) -> Usage:
        sink.attach(Held())
        return await breaks(LOST, "x")(generation, sink)

    engine = Scripted(*[says_one_and_breaks] * 10, says("end"))
    place = Place(engine)
    items = await run(place, place.request())
    assert "".join(i.text for i in items if isinstance(i, Text)) == "x" * 10 + "end"
    assert isinstance(items[-1], Done)


@pytest.mark.usefixtures("hasty")
async def test_the_poison_pays_and_not_who_stood_beside_it() -> None:
    engine = Mortal()
    place, beside = Place(engine), Place(engine)
    poison, innocent = place.request(poison=True), beside.request()
    innocent._loop = place.loop
    async with asyncio.timeout(10):
        await asyncio.gather(chat({"request": poison}), chat({"request": innocent}))
    assert isinstance(place.items()[-1], Failed)
    assert isinstance(beside.items()[-1], Done)
    assert sum("poison" in asked.body for asked in engine.asked) == 2
    assert len(engine.asked) == 4
