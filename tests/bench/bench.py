"""`make bench`: the hub against its own upstream, and against other gateways, in one run.

Everything is real but the model: a C upstream that paces tokens exactly, and a C load generator.
Direct and hub runs alternate, so that a noisy machine disturbs both. CPU time is the figure to
compare between machines; times are only good beside the direct ones of the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from shared import log
from tests import native
from tests.bench.cpu import Meter, resident
from tests.bench.figures import percentile, table
from tests.bench.latency import queue_latency
from tests.bench.limits import Run, compared, limited_key
from tests.bench.peers.peers import PEERS
from tests.bench.target import PARTS, Target, hub_target, peer_target
from tests.hub import Hub, running_hub
from tests.native import Upstream

STREAMS = {1: (10, 100), 8: (20, 240), 32: (50, 128), 128: (50, 384)}
"""Streams at once: tokens of each, and how many requests."""
PEER_STREAMS = 32
"""The slowest peer cannot keep up with more on two cores, and a queue is not what is compared."""
PACE_MS = 20
TOKENS = 50


class Bench:
    def __init__(self, programs: Path, quick: bool) -> None:
        self._programs = programs
        self._rounds = 1 if quick else 3
        self._share = 4 if quick else 1
        self.kept: dict[str, tuple[float, float]] = {}
        """By target and load: median milliseconds, CPU per chunk in µs or per request in ms."""

    def run(self, target: Target, *flags: str) -> tuple[dict[str, Any], dict[str, float]]:
        meter = Meter(target.parts)
        load = native.Load(
            self._programs, target.url, target.key, target.model, *target.flags, *flags
        )
        result = load.result(300)
        assert not result["failed"], (target.name, result)
        tokens = result["tokens"]
        assert not tokens["lost"] + tokens["duplicated"] + tokens["disordered"], tokens
        return result, meter.read()

    def paced(self, target: Target, streams: int) -> tuple[dict[str, Any], dict[str, float]]:
        tokens, requests = STREAMS[streams]
        requests = max(2 * streams, requests // self._share)
        result, cpu = self.run(
            target,
            *("--connections", str(streams), "--requests", str(requests)),
            *("--tokens", str(tokens), "--ramp-ms", str(PACE_MS * 10), "--warmup", str(streams)),
        )
        result["chunks"] += streams * tokens  # the warm-up took CPU too
        return result, cpu

    def streams(self, direct: Target, others: list[Target], most: int = 128) -> str:
        """Added time to first token, CPU per chunk, for each number of streams up to `most`."""
        rows: list[list[object]] = []
        for streams in (count for count in STREAMS if count <= most):
            seen: dict[str, list[Any]] = {target.name: [] for target in (direct, *others)}
            for _ in range(self._rounds):
                for target in (direct, *others):
                    seen[target.name].append(self.paced(target, streams))
            base = self._ttft(seen[direct.name])
            rows.append([streams, direct.name, *base, "", "", "", "", ""])
            for target in others:
                ttft = self._ttft(seen[target.name])
                cpu = self._per_chunk(seen[target.name])
                added = [at - of for at, of in zip(ttft, base, strict=True)]
                rows.append([streams, target.name, *ttft, *added, *self._columns(cpu)])
                self.kept[f"{target.name} {streams}"] = (added[0], sum(cpu.values()))
        head = ["streams", "through", "TTFT p50 ms", "p99", "added p50 ms", "added p99"]
        return table(
            f"Streams of one token per {PACE_MS} ms",
            [*head, "CPU µs per chunk: all", "gateway", "worker + Redis"],
            rows,
        )

    def _ttft(self, seen: list[Any]) -> tuple[float, float]:
        results = [result["ttft_ms"] for result, _ in seen]
        return median(r["p50"] for r in results), median(r["p99"] for r in results)

    def _per_chunk(self, seen: list[Any]) -> dict[str, float]:
        parts = seen[0][1]
        return {
            part: median(cpu[part] / result["chunks"] * 1e6 for result, cpu in seen)
            for part in parts
        }

    def _columns(self, cpu: dict[str, float]) -> list[object]:
        if "worker" not in cpu:
            return [sum(cpu.values()), "", ""]
        behind = f"{cpu['worker']:.1f} + {cpu['valkey']:.1f}"
        return [sum(cpu.values()), cpu["gateway"], behind]

    def flat_out(self, target: Target) -> str:
        result, cpu = self.run(
            target,
            *("--connections", "128", "--requests", str(512 // self._share), "--tokens", "500"),
        )
        chunks = result["chunks"]
        rows = [
            ["tokens/s through the hub", chunks / result["wall_s"]],
            *([f"tokens per {part} core-second", chunks / cpu[part]] for part in PARTS),
        ]
        return table("128 streams as fast as they go", ["what", "figure"], rows)

    def documents(
        self, direct: Target, others: list[Target], most: int = 128, requests: int = 2_000
    ) -> str:
        rows: list[list[object]] = []
        requests //= self._share
        for connections in (count for count in (1, 32, 128) if count <= most):
            for target in (direct, *others):
                result, cpu = self.run(
                    target,
                    *("--stream", "0", "--connections", str(connections), "--warmup", "32"),
                    *("--requests", str(requests), "--tokens", str(TOKENS)),
                )
                each = {part: used / (requests + 32) * 1e3 for part, used in cpu.items()}
                whole = sum(each.values()) if each else ""
                parts = " + ".join(f"{value:.2f}" for value in each.values())
                rows.append(
                    [
                        *(connections, target.name, result["requests_per_s"]),
                        *(result["total_ms"]["p50"], result["total_ms"]["p99"], whole, parts),
                    ]
                )
                if each:
                    p50 = result["total_ms"]["p50"]
                    self.kept[f"{target.name} json {connections}"] = (p50, sum(each.values()))
        head = ["connections", "through", "requests/s", "p50 ms", "p99 ms", "CPU ms each", "parts"]
        return table(f"JSON replies of {TOKENS} tokens", head, rows)

    def ratios(self, peer: str) -> str:
        """How many times what the hub takes the peer took, in the runs just made side by side."""
        rows = []
        for name, (time_ms, cpu) in self.kept.items():
            if name.startswith(f"{peer} "):
                load = name.removeprefix(f"{peer} ")
                ours = self.kept[f"hub {load}"]
                what = load.replace("json ", "JSON, connections: ")
                what = what if what.startswith("JSON") else f"streams: {what}"
                rows.append([what, f"{time_ms / ours[0]:.2g}×", f"{cpu / ours[1]:.2g}×"])
        return table(f"{peer} ÷ hub", ["load", "added TTFT or reply time, p50", "CPU"], rows)

    def limits(self, paced: Target, at_once: Target, limited: str) -> str:
        """What it costs to be held to limits and budgets, in both kinds of reply."""
        share = self._share

        def run(target: Target, which: str, requests: int, *flags: str) -> Run:
            def once(key: str) -> tuple[float, float]:
                count = ("--requests", str(requests))
                result, cpu = self.run(target._replace(key=key), *flags, *count)
                return result[which]["p50"], sum(cpu.values()) / requests * 1e6

            return once

        streams = ("--connections", "32", "--tokens", "50", "--ramp-ms", str(PACE_MS * 10))
        whole = ("--stream", "0", "--tokens", str(TOKENS), "--connections")
        loads = {
            "32 streams of 50 tokens": run(paced, "ttft_ms", 128, *streams),
            "JSON, 1 connection": run(at_once, "total_ms", 1_200 // share, *whole, "1"),
            "JSON, 32 connections": run(at_once, "total_ms", 4_000 // share, *whole, "32"),
        }
        return compared(loads, at_once.key, limited)

    def cancels(self, target: Target, upstream: Upstream) -> str:
        count = 200 // self._share
        since = upstream.stats()["monotonic_ns"]
        result, _ = self.run(
            target,
            *("--connections", "4", "--requests", str(count), "--tokens", "500"),
            *("--disconnect-after", "5", "--tag", "cancel"),
        )
        closed = dict(result["disconnects"])
        gone: dict[str, int] = {}
        while len(gone) < count:
            gone = upstream.aborts(since)
        late = sorted((gone[tag] - at) / 1e6 for tag, at in closed.items())
        rows = [[count, *(percentile(late, rank) for rank in (50, 99)), late[-1]]]
        return table(
            "Client leaves → engine request cancelled", ["leavers", "p50 ms", "p99 ms", "max"], rows
        )

    def memory(self, target: Target, hub: Hub) -> str:
        rows: list[list[object]] = []
        for requests in (10_000 // self._share, 10_000 // self._share):
            self.run(
                target,
                *("--stream", "0", "--connections", "32", "--tokens", "20"),
                *("--requests", str(requests)),
            )
            done = sum(int(str(row[0])) for row in rows[-1:]) + requests
            gateway = resident(hub.pids("gateway")[1:]) / 1e6
            rows.append([done, gateway, resident(hub.pids("worker")) / 1e6])
        return table("Resident MB after requests", ["requests", "gateway", "worker"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a quarter of the requests, one round")
    parser.add_argument("--peers", type=Path, help="folder with installed peers, to compare with")
    parser.add_argument("--out", type=Path, help="write the tables here too, and figures as JSON")
    options = parser.parse_args()
    log.configure("bench", "warning", "console")
    with tempfile.TemporaryDirectory(prefix="aihub-bench-") as folder:
        programs = native.build(Path(folder))
        paced = native.upstream(programs, Path(folder) / "p", "--pace-ms", str(PACE_MS))
        instant = native.upstream(programs, Path(folder) / "i", "--pace-ms", "0")
        with paced as slow, instant as fast:
            toml = 'queue_limit = 4096\nlog_level = "warning"\n'
            for model, upstream in (("bench", slow), ("instant", fast)):
                toml += f'[models.{model}]\nengine = "openai"\nurl = "unix:{upstream.path}"\n'
                toml += "parallel = 256\n"
            with running_hub(toml) as hub:
                bench = Bench(programs, options.quick)
                tables, kept = measure(bench, hub, slow, fast, options.peers)
    text = "\n".join([machine(), *tables])
    print(machine())
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "bench.md").write_text(text)
        (options.out / "bench.json").write_text(json.dumps(kept, indent=1))


def measure(
    bench: Bench, hub: Hub, slow: Upstream, fast: Upstream, peers: Path | None
) -> tuple[list[str], dict[str, tuple[float, float]]]:
    direct = Target("direct", f"http://127.0.0.1:{slow.port}", "", "bench", {})
    ours = hub_target(hub)
    at_once = direct._replace(url=f"http://127.0.0.1:{fast.port}")
    ours_at_once = ours._replace(model="instant")
    tables: list[str] = []

    def show(text: str) -> None:
        print(text, flush=True)
        tables.append(text)

    show(queue_table(hub))
    show(bench.streams(direct, [ours]))
    show(bench.flat_out(ours_at_once))
    show(bench.documents(at_once, [ours_at_once]))
    show(bench.limits(ours, ours_at_once, limited_key(hub, ("bench", "instant"))))
    show(bench.cancels(ours, slow))
    show(bench.memory(ours_at_once, hub))
    for name, kind in PEERS.items():
        peer = kind()
        folder = (peers or Path("/nonexistent")) / name
        if not peer.installed(folder):
            show(f"{name}: not installed, not compared.\n")
            continue
        target = peer_target(peer, folder, slow)
        show(f"## {name}\n")
        show(bench.streams(direct, [ours, target], PEER_STREAMS))
        peer.stop()
        target = peer_target(peer, folder, fast)
        show(bench.documents(at_once, [ours_at_once, target], PEER_STREAMS, 300))
        show(bench.ratios(name))
        peer.stop()
    return tables, bench.kept


def queue_table(hub: Hub) -> str:
    rows = []
    for running in (0, 128):
        found = queue_latency(hub, running, 300)
        rows.append([running, found["p50"], found["p99"]])
    return table("Enqueue → start, ms", ["jobs running", "p50", "p99"], rows)


def machine() -> str:
    model = next(
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores ({model}), Python {platform.python_version()},"
        f" load average {load:.1f} at the end.\n"
    )


if __name__ == "__main__":
    main()
