"""What a model's settings fill in."""

from __future__ import annotations

import pytest

from shared.defaults import filled


@pytest.mark.parametrize("given", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("default", ["max_tokens", "max_completion_tokens"])
def test_a_limit_that_is_asked_for_is_the_only_one(given: str, default: str) -> None:
    assert filled({default: 1000, "top_p": 0.5}, {given: 1}) == {given: 1, "top_p": 0.5}


def test_what_is_not_said_is_filled_in() -> None:
    defaults = {"max_completion_tokens": 1000, "temperature": 0.2}
    assert filled(defaults, {"temperature": 1}) == {"max_completion_tokens": 1000, "temperature": 1}
