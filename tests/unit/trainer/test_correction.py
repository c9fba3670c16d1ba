"""What was measured takes the place of what was estimated, for the same setup only."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shared.training_run import Ran, Setup
from trainer.correction import corrected, earlier
from trainer.estimate import Estimate
from trainer.forecast import setup, sizes
from trainer.plan import Hyperparameters
from trainer.recipe import candidates

GIB = 1 << 30
CHOSEN = Hyperparameters(
    epochs=2,
    batch=4,
    accumulation=1,
    learning_rate=1e-4,
    rank=16,
    alpha=32,
    max_length=512,
    seed=0,
    quantise="nf4",
    dtype="bfloat16",
    checkpointing=True,
    checkpoint_every=5,
)
SETUP = setup("card", "base", GIB, "supervised", CHOSEN, 400)


def ran(peak: int = 3 * GIB, **changes: Any) -> Ran:
    figures = {"tokens_per_second": 100.0, "work": 1e9, "around": 5.0}
    return Ran(**{**msgspec.structs.asdict(SETUP), "peak": peak, **figures, **changes})


def test_a_setup_is_as_long_as_its_longest_example() -> None:
    assert SETUP.length == 448
    assert setup("card", "base", GIB, "supervised", CHOSEN, 4000).length == 512
    assert setup("card", "base", GIB, "supervised", CHOSEN, 0).length == 512


@pytest.mark.parametrize("field", Setup.__struct_fields__)
def test_another_setup_tells_nothing(field: str) -> None:
    value = getattr(SETUP, field)
    other: object = not value if isinstance(value, bool) else value * 2
    assert earlier([ran(**{field: other})], SETUP) is None
    assert earlier([ran(**{field: other}), ran(7), ran(8)], SETUP) == ran(7)


def test_bytes_follow_what_was_measured() -> None:
    assert corrected(2 * GIB, None) == (2 * GIB, "estimated")
    assert corrected(2 * GIB, ran()) == (int(3.15 * GIB), "measured")
    assert corrected(9 * GIB, ran()) == (int(3.15 * GIB), "measured")
    assert corrected(2 * GIB, ran(short=True)) == (int(3.75 * GIB), "grown")
    assert corrected(9 * GIB, ran(short=True)) == (9 * GIB, "grown")


def test_each_batch_is_corrected_by_itself() -> None:
    several = candidates(CHOSEN)
    told = [
        Estimate(base=GIB, adapter=0, optimiser=0, activations=each.batch, allocator=0, runtime=0)
        for each in several
    ]
    found = sizes(SETUP, several, told, [ran(batch=2)])
    assert [(each.batch, each.accumulation, each.basis) for each in found] == [
        (4, 1, "estimated"),
        (2, 2, "measured"),
        (1, 4, "estimated"),
    ]
    assert [each.bytes for each in found] == [GIB + 4, int(3.15 * GIB), GIB + 1]
    assert [each.estimated for each in found] == [each.total for each in told]
