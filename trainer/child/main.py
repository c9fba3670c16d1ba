"""What trainer/launch.py starts. Exit statuses: trainer/plan.py.

`train FOLDER PARENT` trains. `dry PARENT` and `survey PARENT` read a question as JSON from standard
input and answer with JSON on standard output.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import msgspec

from shared.lifeline import die_with_parent
from trainer.child.wire import Wire
from trainer.estimate import DryRun
from trainer.example import Unusable
from trainer.plan import BROKEN, FINISHED, UNREADABLE, Plan
from trainer.report import Broken, Phase
from trainer.survey import Question, Unpack

NO_MEMORY = ("not enough memory", "can't allocate memory")
"""What torch says on a CPU."""


def main(argv: list[str]) -> int:
    match argv:
        case ["train", folder, parent]:
            die_with_parent(int(parent))
            return train(Path(folder))
        case ["dry", parent]:
            die_with_parent(int(parent))
            return answered(dry)
        case ["survey", parent]:
            die_with_parent(int(parent))
            return answered(surveyed)
        case ["unpack", parent]:
            die_with_parent(int(parent))
            return answered(unpacked)
        case _:
            print(
                "usage: bootstrap.py train FOLDER PARENT | dry PARENT | survey PARENT"
                " | unpack PARENT",
                file=sys.stderr,
            )
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
    try:
        import torch

        from trainer.child.run import Run
        from trainer.child.watch import DivergedError
        from trainer.child.words import UnfitError
    except ImportError as error:
        traceback.print_exc()
        message = f"The training environment cannot be used: {first_line(error)}"
        wire.say(Broken(code="server_error", message=message))
        return BROKEN
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


def answered(reply: Callable[[bytes], msgspec.Struct]) -> int:
    """Status 1 with the reason as the last line of standard error where there is no answer."""
    from trainer.child.words import UnfitError

    out = os.dup(1)
    os.dup2(2, 1)
    try:
        made = reply(sys.stdin.buffer.read())
    except (UnfitError, Unusable, OSError, ValueError) as error:
        traceback.print_exc()
        print(first_line(error), file=sys.stderr)
        return BROKEN
    with os.fdopen(out, "wb") as answer:
        answer.write(msgspec.json.encode(made))
    return FINISHED


def dry(asked: bytes) -> msgspec.Struct:
    from trainer.child.dry import dry_run

    return dry_run(msgspec.json.decode(asked, type=DryRun))


def surveyed(asked: bytes) -> msgspec.Struct:
    from trainer.child.surveying import survey

    return survey(msgspec.json.decode(asked, type=Question))


def unpacked(asked: bytes) -> msgspec.Struct:
    from trainer.child.unpacking import unpack

    return unpack(msgspec.json.decode(asked, type=Unpack))


def first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
