"""What says that a run went wrong, while it goes and at its end. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from trainer.report import Metrics, Sample

WINDOW = 5
"""Steps whose mean loss is compared."""
RISE = 2.0
"""Over the best mean so far, in nats: far more than an unlucky batch."""
WORSE = 1.0
"""A validation loss may be this many times the base's, no more."""
REPEATED = 0.5
"""Share of the test prompts that may be answered by repeats before the adapter is refused."""
WORDS = 12
"""A shorter answer is not called a repeat."""


def divergence(losses: Sequence[float]) -> str | None:
    """Why these losses, first to last, are those of a run that is lost; None: they are not."""
    if not losses:
        return None
    if not math.isfinite(losses[-1]):
        return f"The loss of step {len(losses)} of this run is not a number."
    if len(losses) < 2 * WINDOW:
        return None
    means = [
        sum(losses[place : place + WINDOW]) / WINDOW for place in range(len(losses) - WINDOW + 1)
    ]
    best, last = min(means), means[-1]
    if last > RISE * best and last > best + RISE:
        return f"The loss rose from {best:.3g} to {last:.3g}: the learning rate is too high."
    return None


def repeats(answer: str) -> bool:
    """Whether most of it is one and the same phrase of three words."""
    words = answer.split()
    if len(words) < WORDS:
        return len(answer) >= 4 * WORDS and len(set(answer)) <= 3
    phrases = Counter(zip(words, words[1:], words[2:], strict=False))
    return phrases.most_common(1)[0][1] * 3 > len(words) / 2


def repeating(samples: Sequence[Sample]) -> float:
    """Share of the prompts whose tuned answer repeats itself where the base's does not."""
    if not samples:
        return 0.0
    return sum(repeats(each.tuned) and not repeats(each.base) for each in samples) / len(samples)


def refusal(metrics: Metrics) -> str | None:
    """Why an adapter with these figures should not be published; None: it may be."""
    if not math.isfinite(metrics.train_loss):
        return "The training loss is not a number."
    valid, base = metrics.valid_loss, metrics.base_valid_loss
    if valid is not None and not math.isfinite(valid):
        return "The validation loss is not a number."
    if valid is not None and base is not None and valid > WORSE * base:
        return f"On the validation file it is worse than its base: {valid:.4g} against {base:.4g}."
    if metrics.repeating > REPEATED:
        return (
            f"It answers {metrics.repeating:.0%} of the test prompts with repeats where its base"
            " does not."
        )
    return None
