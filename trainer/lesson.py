"""What a run that ended tells of its setup, for the next one. Pure."""

from __future__ import annotations

import msgspec

from shared.training_run import Ran
from trainer.planning import Planned
from trainer.report import Effort


def measured(made: Planned | None, effort: Effort | None) -> Ran | None:
    """`effort` None: it ran out of memory. None: it tells nothing.

    A process that did less than one epoch may not have met the longest example.
    """
    if made is None or made.setup is None:
        return None
    setup = msgspec.structs.asdict(made.setup)
    chosen = made.plan.hyperparameters
    if effort is None:
        given = next(size.bytes for size in made.sizes if size.batch == chosen.batch)
        return Ran(
            **setup, peak=given, tokens_per_second=0.0, work=made.work, around=0.0, short=True
        )
    if effort.steps * chosen.epochs < made.steps or effort.seconds <= 0 or effort.peak <= 0:
        return None
    # On a card the child knows what torch holds; its context comes on top.
    beside = made.estimate.runtime if made.plan.device == "cuda" else 0
    return Ran(
        **setup,
        peak=effort.peak + beside,
        tokens_per_second=effort.tokens / effort.seconds,
        work=made.work,
        around=effort.around,
    )


def smaller(made: Planned | None) -> Planned | None:
    """The same job without the batch that ran and all larger ones; None: it was the smallest."""
    if made is None:
        return None
    left = tuple(size for size in made.sizes if size.batch < made.plan.hyperparameters.batch)
    return msgspec.structs.replace(made, sizes=left) if left else None
