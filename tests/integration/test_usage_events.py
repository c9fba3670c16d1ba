"""What requests are said to have used, through Dispatch and Lane, however they end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from shared import ids, keys
from shared.wire.event import Done, Text
from shared.wire.task import Origin
from shared.wire.usage import UsageEvent, decode
from tests import native
from tests.lanes import PLACES, Hub, assert_whole, eventually, rest, running, some
from tests.native import Upstream


@pytest.fixture(scope="module")
def upstream(programs: Path) -> Iterator[Upstream]:
    with native.upstream(programs, programs / "s", "--pace-ms", "10") as running:
        yield running


@pytest.fixture
async def hub(valkey_url: str, upstream: Upstream) -> AsyncIterator[Hub]:
    async with running(valkey_url, upstream) as hub:
        yield hub


def origin(endpoint: str = "chat/completions") -> Origin:
    return Origin(ids.new("req_"), "proj_1", endpoint)


async def events(hub: Hub) -> list[UsageEvent]:
    return [decode(fields[1]) for _, fields in await hub.link.call("XRANGE", keys.USAGE, "-", "+")]


async def written(hub: Hub, count: int) -> list[UsageEvent]:
    """The events, once there are so many and nothing runs."""
    await eventually(hub.idle)
    found: list[UsageEvent] = []
    while len(found) < count:
        found = await events(hub)
    assert len(found) == count
    return found


async def test_a_stream_to_its_end(hub: Hub) -> None:
    of = origin()
    items = await rest(await hub.ask(30, origin=of))
    assert_whole(items, 30)
    (event,) = await written(hub, 1)
    done = items[-1]
    assert isinstance(done, Done)
    assert (event.request_id, event.project, event.key) == (of.request, "proj_1", "alice")
    assert (event.tokens_in, event.tokens_out) == (done.usage.prompt, 30)
    assert (event.status, event.code, event.streamed) == (200, None, True)
    assert event.queue_ms is not None
    assert event.first_ms is not None
    assert event.queue_ms <= event.first_ms <= event.total_ms
    assert event.total_ms >= 29 * 10


async def test_in_one_piece_and_several_choices(hub: Hub) -> None:
    await rest(await hub.ask(20, streamed=False, origin=origin()))
    await rest(await hub.ask(20, n=3, origin=origin()))
    one, three = await written(hub, 2)
    assert (one.tokens_out, three.tokens_out) == (20, 60)
    assert one.tokens_in == three.tokens_in
    assert not one.streamed


async def test_embeddings(hub: Hub) -> None:
    of = origin("embeddings")
    await rest(await hub.ask(model="e", kind="embedding", streamed=False, input="hi", origin=of))
    (event,) = await written(hub, 1)
    assert (event.model, event.endpoint, event.tokens_out) == ("e", "embeddings", 0)
    assert event.tokens_in > 0


async def test_who_leaves_has_used_what_was_generated(hub: Hub) -> None:
    reply = await hub.ask(1_000, origin=origin())
    got = await some(reply, 12)
    reply.close()
    (event,) = await written(hub, 1)
    assert (event.status, event.code) == (499, "client_closed_request")
    assert sum(isinstance(item, Text) for item in got) <= event.tokens_out < 1_000


async def test_who_leaves_the_line_has_used_nothing(hub: Hub) -> None:
    runs = [await hub.ask(1_000) for _ in range(PLACES)]
    for reply in runs:
        await some(reply, 1)
    waiting = await hub.ask(50, origin=origin())
    waiting.close()
    while not (found := await events(hub)):
        pass
    (event,) = found
    assert (event.status, event.tokens_in, event.tokens_out) == (499, 0, 0)
    assert (event.queue_ms, event.first_ms) == (None, None)
    for reply in runs:
        reply.close()


async def test_what_another_worker_goes_on_with_is_written_down_once(hub: Hub) -> None:
    of = origin()
    reply = await hub.ask(100, origin=of)
    before = await some(reply, 20)
    await hub.lane()
    await hub.stop_lane(hub.lanes[0])
    assert_whole(before + await rest(reply), 100)
    (event,) = await written(hub, 1)
    assert (event.request_id, event.tokens_out, event.status) == (of.request, 100, 200)
    assert event.first_ms is None


async def test_a_lease_that_was_taken_away_leaves_one_event(hub: Hub) -> None:
    of = origin()
    reply = await hub.ask(100, origin=of)
    before = await some(reply, 10)
    await hub.take_lease_away(reply)
    assert_whole(before + await rest(reply), 100)
    (event,) = await written(hub, 1)
    assert (event.tokens_out, event.status) == (100, 200)


async def test_a_request_that_fails_has_its_code(hub: Hub) -> None:
    await rest(await hub.ask(5, kind="completion", prompt=[], origin=origin("completions")))
    (event,) = await written(hub, 1)
    assert (event.status, event.code) == (400, "invalid_value")
    assert (event.tokens_in, event.tokens_out) == (0, 0)
