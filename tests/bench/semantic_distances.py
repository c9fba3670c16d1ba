"""What a threshold alone would let through: `python -m tests.bench.semantic_distances`.

Starts a hub and embeds both sets of pairs with its embedding model.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Sequence
from math import sqrt

from gateway.semantic.embedding import cosine
from gateway.semantic.guard import admits
from tests.hub import Hub, running_hub
from tests.semantic_pairs import Pair, adversarial, paraphrases

THRESHOLDS = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
AT_ONCE = 64


def main() -> None:
    with running_hub() as hub:
        admitted = [pair for pair in paraphrases() if admits(pair.a, pair.b).hit]
        report(hub, "paraphrases the guard admits", admitted)
        report(hub, "adversarial pairs", adversarial())


def report(hub: Hub, name: str, pairs: list[Pair]) -> None:
    first, second = embed(hub, [p.a for p in pairs]), embed(hub, [p.b for p in pairs])
    near = [cosine(one, other) for one, other in zip(first, second, strict=True)]
    shares = ", ".join(
        f"{100 * sum(n >= least for n in near) / len(near):.0f} % from {least}"
        for least in THRESHOLDS
    )
    print(f"{name}, {len(pairs)} by cosine: {shares}")


def embed(hub: Hub, texts: list[str]) -> list[Sequence[float]]:
    """Of unit length."""
    found: list[Sequence[float]] = []
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {hub.key}"}
    for start in range(0, len(texts), AT_ONCE):
        asked = {"model": hub.embedding_model, "input": texts[start : start + AT_ONCE]}
        request = urllib.request.Request(
            f"{hub.base_url}/embeddings", json.dumps(asked).encode(), headers
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            vectors = [row["embedding"] for row in json.load(answer)["data"]]
        for vector in vectors:
            length = sqrt(sum(value * value for value in vector))
            found.append([value / length for value in vector])
    return found


if __name__ == "__main__":
    main()
