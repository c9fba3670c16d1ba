"""Swaps and waiting on a simulated 16 GB card: `python -m tests.bench.swaps`.

Twelve real models share the card; the same trace goes through our scheduler, through what others
do, and through policies that know the future. Every model's bytes and times come from its published
file and shape (traffic.py); nothing is measured on a real card.

The offline rows, and what they are worth:

- *Belady, order kept*: loads when requests are served strictly in order, nothing takes time and the
  model that is asked for again last always goes. With models of one size that is the optimum for
  this order; with several sizes it is the usual heuristic. A policy that reorders may beat it.
- *Belady, in time*: knows every arrival, takes the time loads and answers take, reorders under the
  same bound as ours (closes models in use only for a request that is due), and lets a request wait
  rather than evict what is asked for again before that request is due. It minimises loads one
  decision at a time, not waiting. The true optimum is NP-hard and lies at or below it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from statistics import mean

from tests.bench.card import Card, Policy
from tests.bench.figures import table
from tests.bench.ours import Ours
from tests.bench.rivals import Fifo, FifoSwaps, Hindsight, LruByCount, belady
from tests.bench.traffic import CARD, Asked, plans, trace
from worker.residency import GIB, Plan, Rules, device

SEEDS = (1, 2, 3)
HOST = 64 * GIB
HEAD = ("policy", "loads", "wakes", "GB loaded", "x offline", "p50 s", "p95 s", "max s", "broken")
OFFLINE = "Belady, in time"

Make = Callable[[list[Asked]], Policy]


def ours(catalog: dict[str, Plan], host: int = 0) -> Ours:
    return Ours(device(catalog, CARD, host=host))


POLICIES: dict[str, tuple[Make, bool]] = {
    "FIFO": (lambda _: Fifo(), False),
    "FIFO for loads only": (lambda _: FifoSwaps(), False),
    "LRU, 1 model": (lambda _: LruByCount(1), False),
    "LRU, 4 models": (lambda _: LruByCount(4), False),
    OFFLINE: (lambda asked: Hindsight(asked, Rules()), False),
    "ours": (lambda _: ours(plans()), False),
    "ours, with sleep": (lambda _: ours(plans(sleep=True), HOST), True),
}
"""How each is made, and whether its engines can sleep."""


def play(name: str, asked: list[Asked]) -> Card:
    make, sleeps = POLICIES[name]
    card = Card(plans(sleep=sleeps), CARD, HOST if sleeps else 0)
    card.run(asked, make(asked))
    return card


def compare(every: float, requests: int, seeds: Sequence[int] = SEEDS) -> str:
    """One table: means over the seeds, `max` and `broken` over all of them."""
    traces = [trace(seed, requests, every) for seed in seeds]
    played = {name: [play(name, asked) for asked in traces] for name in POLICIES}
    offline = mean(card.loads for card in played[OFFLINE])
    order = [belady(asked, plans(), CARD) for asked in traces]
    kept = mean(loads for loads, _ in order)
    gigabytes = mean(size for _, size in order) / 1e9
    rows: list[list[object]] = [
        ["Belady, order kept", round(kept), 0, gigabytes, kept / offline, "-", "-", "-", 0]
    ]
    for name, cards in played.items():
        figures = [card.figures() for card in cards]
        # A wake is no load: the ratio is left out where there are wakes.
        loads = mean(card.loads for card in cards)
        ratio = loads / offline if not any(card.wakes for card in cards) else "-"
        rows.append(
            [
                name,
                round(loads),
                round(mean(card.wakes for card in cards)),
                mean(f["GB loaded"] for f in figures),
                ratio,
                mean(f["p50"] for f in figures),
                mean(f["p95"] for f in figures),
                max(f["max"] for f in figures),
                sum(len(card.violations) for card in cards),
            ]
        )
    hours = mean(asked[-1].at for asked in traces) / 3600
    title = f"{requests:,} requests in {hours:.0f} h, a session every {every:g} s"
    return table(title, HEAD, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--every", type=float, nargs="*", default=[120.0, 60.0, 30.0])
    options = parser.parse_args()
    for every in options.every:
        print(compare(every, options.requests), flush=True)


if __name__ == "__main__":
    main()
