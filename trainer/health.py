"""What says that a run went wrong, while it goes and at its end. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import msgspec

from trainer.report import Metrics, Sample

WINDOW = 5
"""Steps whose mean loss is compared."""
LAST = 10
"""Steps whose mean loss is told at the end."""
RISE = 2.0
"""Over the best mean so far, in nats: far more than an unlucky batch."""
WORSE = 1.0
"""A validation loss may be this many times the base's, no more."""
REPEATED = 0.5
"""Share of the test prompts that may be answered by repeats before the adapter is refused."""
WORDS = 12
"""A shorter answer is not called a repeat."""


class Trend(msgspec.Struct):
    """The losses of a run so far, as far as they say whether it is lost."""

    steps: int = 0
    recent: list[float] = []
    """The last ones, first to last, at most LAST."""
    best: float | None = None
    """The lowest mean of WINDOW losses in a row."""

    def add(self, loss: float) -> str | None:
        """Why the run is lost with this loss; None: it is not."""
        self.steps += 1
        self.recent = [*self.recent, loss][-LAST:]
        if not math.isfinite(loss):
            return f"The loss of step {self.steps} is not a number."
        if len(self.recent) < WINDOW:
            return None
        mean, best = sum(self.recent[-WINDOW:]) / WINDOW, self.best
        self.best = mean if best is None else min(best, mean)
        if best is not None and mean > RISE * best and mean > best + RISE:
            return f"The loss rose from {best:.3g} to {mean:.3g}: the learning rate is too high."
        return None

    @property
    def mean(self) -> float:
        """Of the last steps; at least one was added."""
        return sum(self.recent) / len(self.recent)


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
