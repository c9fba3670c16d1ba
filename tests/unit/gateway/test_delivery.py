from __future__ import annotations

import pytest

from gateway.delivery import comment, wait_headers
from gateway.reply import Reply
from gateway.sse import WAITING
from gateway.waiting import Waiting
from shared.wire.event import Done, Entry, Failed, Started, Usage
from shared.wire.task import Task

LONG = Waiting(2, 12.0, "why")
SHORT = Waiting(1, 0.5, "why")
FAILING = Waiting(1, 12.0, "why", fails=True)


@pytest.mark.parametrize(
    ("waiting", "opened", "silent", "said"),
    [
        (None, False, False, b""),
        (None, True, False, b""),
        (None, False, True, WAITING),
        (LONG, False, False, LONG.comment(discreet=False)),
        (SHORT, False, False, b""),
        (SHORT, True, False, SHORT.comment(discreet=False)),
        (SHORT, False, True, SHORT.comment(discreet=False)),
        (FAILING, False, False, b""),
        (FAILING, False, True, FAILING.comment(discreet=False)),
    ],
)
def test_a_status_goes_out_where_it_is_worth_it(
    waiting: Waiting | None, opened: bool, silent: bool, said: bytes
) -> None:
    assert comment(waiting, opened=opened, silent=silent) == said


def reply() -> Reply:
    task = Task("job-1", "chat", "m", "gw-1", 7, True, b"{}", "key", "interactive", 0)
    return Reply(task, "cpu", 100.0, lambda reply: None)


def headers(reply: Reply) -> dict[str, int]:
    return {name.decode(): int(value) for name, value in wait_headers(reply)}


def test_the_headers_of_a_reply_that_began_at_once() -> None:
    one = reply()
    one.take("w", Entry(7, 1, 0, Started(0.0, 60.0)), 100.25)
    assert headers(one) == {"x-aihub-queue-position": 1, "x-aihub-waited-ms": 250}


def test_the_headers_of_a_reply_that_waited_for_a_load() -> None:
    one = reply()
    one.placed = 3
    one.waiting = LONG
    one.expected = 14.5
    one.take("w", Entry(7, 1, 0, Started(0.0, 2.0)), 110.0)
    assert one.waiting is None
    assert headers(one) == {
        "x-aihub-queue-position": 4,
        "x-aihub-expected-wait-ms": 14_500,
        "x-aihub-waited-ms": 10_000,
        "x-aihub-load-ms": 8_000,
    }


def test_the_headers_while_it_waits_do_not_tell_what_is_not_known() -> None:
    one = reply()
    one.expected = 14.5
    assert headers(one) == {"x-aihub-queue-position": 1, "x-aihub-expected-wait-ms": 14_500}


def test_a_reply_that_began_with_its_end_waited_until_then() -> None:
    one = reply()
    one.take("w", Entry(7, 1, 0, Failed(503, "t", None, None, "no")), 101.0)
    assert headers(one)["x-aihub-waited-ms"] == 1000
    assert "x-aihub-load-ms" not in headers(one)
    one.take("w", Entry(7, 1, 1, Done(Usage())), 105.0)
    assert headers(one)["x-aihub-waited-ms"] == 1000
