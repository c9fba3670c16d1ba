from __future__ import annotations

import pytest

from gateway.semantic.judge import compare

LONG = "The treaty was signed in 1648 and ended a long war. " * 6


@pytest.mark.parametrize(
    ("served", "computed", "similarity"),
    [
        ("Paris.", "paris", None),
        ("The capital is Paris.", "It is Paris.", 0.9),
        ("Water boils at 100 °C.", "At 100 °C, water boils.", None),
        ("It is Lima.", "The capital of Peru is Lima.", 0.8),
        (LONG, LONG + "Many were glad.", 0.95),
    ],
)
def test_the_same(served: str, computed: str, similarity: float | None) -> None:
    assert compare(served, computed, similarity) == "same"


@pytest.mark.parametrize(
    ("served", "computed", "similarity"),
    [
        ("Yes, it is.", "No, it is not.", 0.99),
        ("It costs 5 euros.", "It costs 6 euros.", 0.99),
        ("The capital is Paris.", "The capital is Rome.", 0.99),
        ("It is far.", "It is 5 km.", 0.9),
        ("You can do that.", "You can not do that.", 0.99),
        ("A cat.", "Quantum fields.", 0.1),
        ("", "Something.", None),
        (LONG, LONG.replace("1648", "1815"), 0.99),
        (LONG, LONG + "Many were glad.", None),
    ],
)
def test_different(served: str, computed: str, similarity: float | None) -> None:
    assert compare(served, computed, similarity) == "different"
    assert compare(computed, served, similarity) == "different"
