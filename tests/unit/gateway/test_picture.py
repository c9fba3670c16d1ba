"""The picture of a loss."""

from __future__ import annotations

from xml.etree import ElementTree

from gateway.routes.fine_tuning.picture import Curve, curves, draw
from shared.wire.training import Point


def test_training_and_validation_are_two_curves() -> None:
    points = [Point(1, "train_loss", 3.0), Point(2, "train_loss", 1.5), Point(2, "valid_loss", 1.0)]
    training, validation = curves(points)
    assert training.points == [(1, 3.0), (2, 1.5)]
    assert validation.points == [(2, 1.0)]


def test_it_is_well_formed() -> None:
    many = [(step, 1 / step) for step in range(1, 1500)]
    svg = draw("<a & b>", [Curve("training", many), Curve("validation", [])])
    root = ElementTree.fromstring(svg)
    (line,) = root.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(line.attrib["points"].split()) == len(many)
    for point in line.attrib["points"].split():
        x, y = map(float, point.split(","))
        assert 0 <= x <= float(root.attrib["width"])
        assert 0 <= y <= float(root.attrib["height"])


def test_without_a_step_it_says_so() -> None:
    assert "no step yet" in draw("x", curves([]))
