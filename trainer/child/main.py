"""`train FOLDER PARENT`: what trainer/launch.py starts. Exit statuses: trainer/plan.py."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import msgspec

from shared.lifeline import die_with_parent
from trainer.child.wire import Wire
from trainer.example import Unusable
from trainer.plan import BROKEN, UNREADABLE, Plan
from trainer.report import Broken, Phase

NO_MEMORY = ("not enough memory", "can't allocate memory")
"""What torch says on a CPU."""


def main(argv: list[str]) -> int:
    match argv:
        case ["train", folder, parent]:
            die_with_parent(int(parent))
            return train(Path(folder))
        case _:
            print("usage: bootstrap.py train FOLDER PARENT", file=sys.stderr)
            return UNREADABLE


def train(folder: Path) -> int:
    try:
        plan = Plan.read(folder)
    except (OSError, msgspec.MsgspecError) as error:
        print(f"plan.json: {error}", file=sys.stderr)
        return UNREADABLE
    wire = Wire()
    wire.listen()
    wire.say(Phase("importing"))
    import torch

    from trainer.child.run import Run
    from trainer.child.watch import DivergedError
    from trainer.child.words import UnfitError

    try:
        return Run(plan, folder, wire).train()
    except UnfitError as error:
        broken = Broken(code="base_unfit", message=str(error))
    except Unusable as error:
        broken = Broken(code="invalid_data", message=error.fault.message)
    except DivergedError as error:
        broken = Broken(code="diverged", message=str(error))
    except (torch.OutOfMemoryError, MemoryError) as error:
        traceback.print_exc()
        broken = Broken(code="out_of_memory", message=first_line(error))
    except Exception as error:  # noqa: BLE001
        # Whatever it is, the trainer must hear of it.
        traceback.print_exc()
        short = any(said in str(error) for said in NO_MEMORY)
        broken = Broken(
            code="out_of_memory" if short else "server_error",
            message=f"{type(error).__name__}: {first_line(error)}",
        )
    wire.say(broken)
    return BROKEN


def first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
