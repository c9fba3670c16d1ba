"""The loss of a job as a picture. Pure: points in, SVG out."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from shared.wire.training import Point

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 40, 40
LINES = 4
COLOURS = ("#1f6feb", "#d1242f")


class Curve(NamedTuple):
    """(step, loss) by step."""

    name: str
    points: Sequence[tuple[int, float]]


def curves(points: Sequence[Point]) -> list[Curve]:
    """Training and validation loss out of a job's points."""
    return [
        Curve(name, [(point.step, point.loss) for point in points if point.name == key])
        for name, key in (("training", "train_loss"), ("validation", "valid_loss"))
    ]


def draw(title: str, curves: Sequence[Curve]) -> str:
    every = [point for curve in curves for point in curve.points]
    last = max((step for step, _ in every), default=1) or 1
    top = max((loss for _, loss in every), default=1.0) * 1.05 or 1.0
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        f' width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="22" font-size="14" fill="#1f2328">{escape(title)}</text>',
    ]
    for line in range(LINES + 1):
        value = top * line / LINES
        y = place(value, top, HEIGHT - BOTTOM, TOP)
        parts.append(
            f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#d0d7de"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#59636e">'
            f"{value:.3g}</text>"
        )
        step = round(last * line / LINES)
        parts.append(
            f'<text x="{place(step, last, LEFT, WIDTH - RIGHT):.1f}" y="{HEIGHT - BOTTOM + 16}"'
            f' text-anchor="middle" fill="#59636e">{step}</text>'
        )
    for number, curve in enumerate(curves):
        parts += drawn(curve, COLOURS[number % len(COLOURS)], last, top, number)
    if not every:
        parts.append(f'<text x="{LEFT + 8}" y="{TOP + 20}" fill="#59636e">no step yet</text>')
    return "\n".join([*parts, "</svg>\n"])


def drawn(curve: Curve, colour: str, last: int, top: float, number: int) -> list[str]:
    if not curve.points:
        return []
    spots = [
        f"{place(step, last, LEFT, WIDTH - RIGHT):.1f},{place(loss, top, HEIGHT - BOTTOM, TOP):.1f}"
        for step, loss in curve.points
    ]
    x = WIDTH - RIGHT - 90
    y = 16 + 14 * number
    return [
        f'<polyline points="{" ".join(spots)}" fill="none" stroke="{colour}" stroke-width="1.5"/>',
        f'<path d="M{x} {y}h16" stroke="{colour}" stroke-width="2"/>'
        f'<text x="{x + 20}" y="{y + 4}" fill="#1f2328">{curve.name}</text>',
    ]


def place(value: float, most: float, first: int, last: int) -> float:
    return first + (last - first) * value / most
