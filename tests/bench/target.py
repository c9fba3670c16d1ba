"""What a load is put on: the hub, a peer, or an upstream itself."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tests.bench.peers.peers import Peer
from tests.hub import Hub, free_port
from tests.native import Upstream

PARTS = ("gateway", "worker", "valkey")


class Target(NamedTuple):
    """What a load is put on, and the processes whose CPU it takes."""

    name: str
    url: str
    key: str
    model: str
    parts: dict[str, list[int]]
    flags: tuple[str, ...] = ()


def hub_target(hub: Hub) -> Target:
    return Target("hub", hub.url, hub.key, "bench", {part: hub.pids(part) for part in PARTS})


def peer_target(peer: Peer, folder: Path, upstream: Upstream) -> Target:
    running = peer.start(folder, f"http://127.0.0.1:{upstream.port}", free_port())
    flags = [flag for header in peer.headers for flag in ("--header", header)]
    return Target(
        peer.name, running.url, running.key, running.model, {"all": running.pids}, tuple(flags)
    )
