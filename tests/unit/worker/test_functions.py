"""What a request may use is what its engine is asked for."""

from __future__ import annotations

from typing import Any

import pytest

from worker.functions import capped


@pytest.mark.parametrize(
    ("body", "most", "wanted"),
    [
        ({}, 0, {}),
        ({"max_tokens": 90}, 0, {"max_tokens": 90}),
        ({}, 50, {"max_tokens": 50}),
        ({"max_tokens": None}, 50, {"max_tokens": 50}),
        ({"max_tokens": 90}, 50, {"max_tokens": 50}),
        ({"max_tokens": 5}, 50, {"max_tokens": 5}),
        ({"max_completion_tokens": 90}, 50, {"max_completion_tokens": 50}),
    ],
)
def test_an_answer_is_cut_where_its_hold_ends(
    body: dict[str, Any], most: int, wanted: dict[str, Any]
) -> None:
    assert capped(body, most) == wanted
