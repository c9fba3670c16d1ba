"""Tables of figures, and the arithmetic behind them."""

from __future__ import annotations

from collections.abc import Sequence


def percentile(ordered: Sequence[float], rank: float) -> float:
    """The value below which `rank` percent of an ordered sequence lie."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * rank / 100))]


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; floats with two or three significant digits."""
    cells = [[show(cell) for cell in row] for row in rows]
    widths = [
        max(len(name), *(len(row[at]) for row in cells)) if cells else len(name)
        for at, name in enumerate(head)
    ]
    lines = [
        "| "
        + " | ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        + " |"
        for row in (list(head), ["-" * width for width in widths], *cells)
    ]
    return "\n".join([f"### {title}", "", *lines, ""])


def show(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" if value else "0"
    return str(value)
