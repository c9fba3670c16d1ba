"""The lines of `aihub train`."""

from __future__ import annotations

import pytest

from deploy.train import Bar, progress, steps

STEP = {
    "step": 6,
    "total_steps": 24,
    "train_loss": 0.51234,
    "tokens_per_second": 310.4,
    "eta_seconds": 12.2,
}


def test_a_step_in_one_line() -> None:
    assert progress(STEP) == (
        "[######..................] step 6/24, loss 0.5123, 310 tokens/s, 12 s left"
    )
    assert steps({"aihub": {"step": 6, "steps": 24}}) == "6/24"
    assert steps({"aihub": {"step": 0, "steps": None}}) == "-"


def test_elsewhere_than_in_a_terminal_each_step_is_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bar = Bar()
    bar.show(STEP)
    bar.say("done")
    assert capsys.readouterr().out.splitlines() == [progress(STEP), "done"]
