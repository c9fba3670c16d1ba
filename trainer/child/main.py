"""What trainer/launch.py starts. Exit statuses: trainer/plan.py.

`train FOLDER PARENT` trains. `examine PARENT` answers questions on standard input, one JSON object
a line, with one on standard output.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

import msgspec

from shared.lifeline import die_with_parent
from trainer.child.wire import Wire
from trainer.estimate import DryRun
from trainer.example import Unusable
from trainer.plan import BROKEN, FINISHED, UNREADABLE, Plan
from trainer.report import Broken, Phase
from trainer.speed import Gauge
from trainer.survey import Question, Unpack

NO_MEMORY = ("not enough memory", "can't allocate memory")
"""What torch says on a CPU."""
ASKED = msgspec.json.Decoder(Question | DryRun | Unpack | Gauge)


def main(argv: list[str]) -> int:
    match argv:
        case ["train", folder, parent]:
            die_with_parent(int(parent))
            return train(Path(folder))
        case ["examine", parent]:
            die_with_parent(int(parent))
            return examine()
        case _:
            print("usage: bootstrap.py train FOLDER PARENT | examine PARENT", file=sys.stderr)
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


def examine() -> int:
    """Until there are no more questions."""
    from trainer.child.words import UnfitError

    out = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(out, "wb") as answers:
        for line in sys.stdin.buffer:
            try:
                made = answer(ASKED.decode(line))
            except (UnfitError, Unusable, OSError, ValueError) as error:
                traceback.print_exc()
                print(first_line(error), file=sys.stderr)
                return BROKEN
            answers.write(msgspec.json.encode(made) + b"\n")
            answers.flush()
    return FINISHED


def answer(asked: Question | DryRun | Unpack | Gauge) -> msgspec.Struct:
    """Imports what the question needs, and no more: some of it takes seconds."""
    match asked:
        case Question():
            from trainer.child.surveying import survey

            return survey(asked)
        case DryRun():
            from trainer.child.dry import dry_run

            return dry_run(asked)
        case Unpack():
            from trainer.child.unpacking import unpack

            return unpack(asked)
        case Gauge():
            from trainer.child.gauging import gauge

            return gauge(asked)


def first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
