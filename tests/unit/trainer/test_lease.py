"""How long a job that there is no room for keeps others waiting."""

from __future__ import annotations

import pytest

from trainer.lease import MOST_OVERTAKEN, PATIENCE, REFUSED_PATIENCE, TURN, patience


@pytest.mark.parametrize("overtaken", range(MOST_OVERTAKEN))
def test_others_are_tried_soon(overtaken: int) -> None:
    assert patience(overtaken, final=True) == REFUSED_PATIENCE
    assert patience(overtaken, final=False) == PATIENCE < TURN


@pytest.mark.parametrize("final", [True, False])
def test_who_was_overtaken_often_enough_has_its_turn(final: bool) -> None:
    assert patience(MOST_OVERTAKEN, final=final) == patience(99, final=final) == TURN
