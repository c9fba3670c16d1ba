"""A process that stands still and goes on, as on a machine that swaps or was suspended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from shared import keys
from tests.chaos.conftest import Stream
from tests.chaos.test_streams import EIGHT, STREAMS, assert_every_token, in_the_middle
from tests.hub import Hub
from tests.native import Upstream

HOLDS = {
    "worker": keys.LEASE_MS / 1000 + 1.5,
    "gateway": keys.REPLY_MS / 1000 + 2,
    "valkey": 7.0,
}
"""Seconds: longer than a lease, than a reply stream lives, than a silent server is waited for."""


@pytest.mark.parametrize("part", HOLDS)
def test_a_standstill(
    sound: Hub, load: Stream, upstream: Upstream, note: Callable[[str], None], part: str
) -> None:
    streams = load(*EIGHT)
    in_the_middle(upstream, STREAMS)
    pid = sound.pids(part)[-1]
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(HOLDS[part])
    finally:
        os.kill(pid, signal.SIGCONT)
    result = streams.result()
    assert_every_token(result, STREAMS)
    note(
        f"stood still for {HOLDS[part]:.1f} s, silence of at most {result['gap_ms']['max']:.0f} ms"
    )
