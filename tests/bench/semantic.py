"""The guard of the semantic cache on both sets of pairs: `python -m tests.bench.semantic [-v]`.

Exits with 1 when an adversarial pair hits.
"""

from __future__ import annotations

import sys
from collections import Counter
from statistics import quantiles
from time import perf_counter

from gateway.semantic.guard import admits
from tests.semantic_pairs import Pair, adversarial, paraphrases


def main() -> int:
    verbose = "-v" in sys.argv[1:]
    wrong = report("adversarial pairs", adversarial(), "wrong hits", shown=True)
    report("true paraphrases", paraphrases(), "hits", shown=False)
    if verbose:
        for pair in paraphrases():
            verdict = admits(pair.a, pair.b)
            if not verdict.hit:
                print(f"  miss ({verdict.why}): {pair.a} | {pair.b}")
    time_calls()
    return 1 if wrong else 0


def report(name: str, pairs: list[Pair], what: str, *, shown: bool) -> int:
    hits: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for pair in pairs:
        hit = admits(pair.a, pair.b).hit or admits(pair.b, pair.a).hit
        groups = ("all", pair.half, "in " + pair.language) if not shown else ("all", pair.half)
        for group in groups:
            sizes[group] += 1
            hits[group] += hit
        if hit and shown:
            print(f"  WRONG ({pair.category}): {pair.a} | {pair.b}")
    for group, size in sizes.items():
        share = 100 * hits[group] / size
        print(f"{name}, {group}: {hits[group]} {what} of {size} ({share:.1f} %)")
    return hits["all"]


def time_calls() -> None:
    pairs = paraphrases() + adversarial()
    micros = []
    for pair in pairs:
        start = perf_counter()
        admits(pair.a, pair.b)
        micros.append((perf_counter() - start) * 1e6)
    cuts = quantiles(micros, n=100)
    print(f"a call: {cuts[49]:.0f} us p50, {cuts[98]:.0f} us p99, {len(micros)} calls")


if __name__ == "__main__":
    sys.exit(main())
