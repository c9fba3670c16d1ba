"""What a run that ended tells of its setup."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tests.unit.trainer.test_correction import CHOSEN, GIB, SETUP
from trainer.estimate import Estimate
from trainer.forecast import Size
from trainer.lesson import measured, smaller
from trainer.plan import Plan
from trainer.planning import Planned
from trainer.report import Effort


def planned(device: Literal["cpu", "cuda"] = "cpu") -> Planned:
    where = str(Path("/none"))
    plan = Plan(
        job="j",
        base=where,
        method="supervised",
        train=where,
        hyperparameters=CHOSEN,
        device=device,
        threads=1,
    )
    return Planned(
        plan=plan,
        steps=20,
        tokens=1000,
        reasons=(),
        estimate=Estimate(
            base=GIB, adapter=0, optimiser=0, activations=0, allocator=0, runtime=512
        ),
        sizes=(Size(4, 1, 3 * GIB), Size(2, 2, 2 * GIB)),
        setup=SETUP,
        work=2e9,
    )


def effort(steps: int = 20) -> Effort:
    return Effort(steps=steps, tokens=1000, seconds=10.0, around=4.0, peak=GIB)


def test_a_whole_run() -> None:
    found = measured(planned(), effort())
    assert found is not None
    assert (found.peak, found.tokens_per_second, found.work, found.around) == (GIB, 100.0, 2e9, 4.0)
    assert (found.device, found.batch, found.short) == ("card", 4, False)


def test_on_a_card_its_context_comes_on_top() -> None:
    found = measured(planned("cuda"), effort())
    assert found is not None
    assert found.peak == GIB + 512


def test_less_than_an_epoch_tells_nothing() -> None:
    assert measured(planned(), effort(steps=10)) is not None
    assert measured(planned(), effort(steps=9)) is None
    assert measured(None, effort()) is None


def test_out_of_memory_tells_what_was_too_little() -> None:
    smaller = planned().shrunk(Size(2, 2, 2 * GIB))
    found = measured(smaller, None)
    assert found is not None
    assert (found.batch, found.peak, found.short, found.tokens_per_second) == (2, 2 * GIB, True, 0)


def test_after_it_the_next_smaller_batch_is_tried() -> None:
    made = planned()
    less = smaller(made)
    assert less is not None
    assert less.sizes == made.sizes[1:]
    assert smaller(less.shrunk(less.sizes[0])) is None
    assert smaller(None) is None
