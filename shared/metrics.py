"""Counters, gauges and histograms of one process, as Prometheus reads them.

Label values must come from bounded sets: route names, statuses, names of models.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

Labels = tuple[str, ...]

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


def escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def series(name: str, names: Sequence[str], labels: Labels, value: float) -> str:
    pairs = ",".join(f'{n}="{escape(v)}"' for n, v in zip(names, labels, strict=True))
    return f"{name}{{{pairs}}} {value:.15g}" if pairs else f"{name} {value:.15g}"


class Counter:
    """Only goes up."""

    kind = "counter"

    def __init__(self, name: str, text: str, labels: Sequence[str] = ()) -> None:
        self.name = name
        self.text = text
        self._names = labels
        self._values: dict[Labels, float] = {}

    def add(self, amount: float = 1, labels: Labels = ()) -> None:
        self._values[labels] = self._values.get(labels, 0) + amount

    def lines(self) -> Iterable[str]:
        for labels, value in self._values.items():
            yield series(self.name, self._names, labels, value)


class Gauge:
    """Read when asked for; `read` gives the value of every label set."""

    kind = "gauge"

    def __init__(
        self,
        name: str,
        text: str,
        read: Callable[[], dict[Labels, float]],
        labels: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.text = text
        self._names = labels
        self._read = read

    def lines(self) -> Iterable[str]:
        for labels, value in self._read().items():
            yield series(self.name, self._names, labels, value)


class Total(Gauge):
    """Only goes up, and is counted elsewhere."""

    kind = "counter"


class Histogram:
    """How often a value fell below each of `bounds`."""

    kind = "histogram"

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str] = (),
        bounds: Sequence[float] = SECONDS,
    ) -> None:
        self.name = name
        self.text = text
        self._names = labels
        self._bounds = bounds
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}

    def observe(self, value: float, labels: Labels = ()) -> None:
        counts = self._counts.get(labels)
        if counts is None:
            counts = self._counts[labels] = [0] * (len(self._bounds) + 1)
            self._sums[labels] = 0.0
        counts[bisect_left(self._bounds, value)] += 1
        self._sums[labels] += value

    def lines(self) -> Iterable[str]:
        names = (*self._names, "le")
        for labels, counts in self._counts.items():
            total = 0
            for bound, count in zip((*self._bounds, float("inf")), counts, strict=True):
                total += count
                limit = "+Inf" if bound == float("inf") else f"{bound:g}"
                yield series(f"{self.name}_bucket", names, (*labels, limit), total)
            yield series(f"{self.name}_sum", self._names, labels, self._sums[labels])
            yield series(f"{self.name}_count", self._names, labels, total)


Metric = Counter | Gauge | Histogram


def render(metrics: Iterable[Metric]) -> str:
    """The text format, version 0.0.4."""
    lines = []
    for metric in metrics:
        lines.append(f"# HELP {metric.name} {metric.text}")
        lines.append(f"# TYPE {metric.name} {metric.kind}")
        lines.extend(metric.lines())
    return "\n".join(lines) + "\n"
