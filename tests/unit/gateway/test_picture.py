"""The picture of a loss."""

from __future__ import annotations

from xml.etree import ElementTree

from gateway.routes.fine_tuning.picture import MOST, Curve, curves, draw


def test_the_last_word_on_a_step_counts() -> None:
    rows: list[dict[str, object]] = [
        {"step": 2, "train_loss": 2.0},
        {"step": 1, "train_loss": 3.0},
        {"step": 2, "train_loss": 1.5, "valid_loss": 1},
        {"note": "nothing"},
    ]
    training, validation = curves(rows)
    assert training.points == [(1, 3.0), (2, 1.5)]
    assert validation.points == [(2, 1.0)]


def test_it_is_well_formed_and_bounded() -> None:
    many = [(step, 1 / step) for step in range(1, 5 * MOST)]
    svg = draw("<a & b>", [Curve("training", many), Curve("validation", [])])
    root = ElementTree.fromstring(svg)
    (line,) = root.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(line.attrib["points"].split()) <= MOST + 1
    for point in line.attrib["points"].split():
        x, y = map(float, point.split(","))
        assert 0 <= x <= float(root.attrib["width"])
        assert 0 <= y <= float(root.attrib["height"])


def test_without_a_step_it_says_so() -> None:
    assert "no step yet" in draw("x", curves([]))
