"""A supervisor over small processes: `python supervised.py FOLDER JSON`.

The JSON is a list of stages, each a list of [name, program, seconds to readiness]; a program is
Python text that may call `ready()`. Each service is ready once its process said so.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path

from deploy.console import Console
from deploy.service import Service
from deploy.supervisor import Interrupted, StartFailed, Supervisor

PRELUDE = """
import os, pathlib, signal, subprocess, sys, time
folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]
def ready():
    draft = folder / (name + ".draft")
    draft.write_text(str(os.getpid()))
    draft.rename(folder / (name + ".pid"))
"""


def missing(path: Path) -> str | None:
    if not path.exists():
        return f"{path.name} is not there"
    alive = Path("/proc", path.read_text(), "status")
    if not alive.exists() or "State:\tZ" in alive.read_text():
        return f"{path.name} is of an earlier process"
    return None


def service(folder: Path, name: str, program: str, within: float) -> Service:
    return Service(
        name,
        [sys.executable, "-S", "-c", PRELUDE + program, str(folder), name],
        {"OWNER": str(os.getpid())},
        missing=partial(missing, folder / f"{name}.pid"),
        within=within,
    )


def main(folder: Path, stages: list[list[tuple[str, str, float]]]) -> int:
    console = Console()
    supervisor = Supervisor(folder / "log", console)
    try:
        for stage in stages:
            supervisor.start(*(service(folder, *words) for words in stage))
            supervisor.until_ready()
        console.line("test", "up")
        supervisor.watch()
    except Interrupted:
        console.line("test", "interrupted")
    except StartFailed as error:
        console.write(f"{error}\n" + "".join(f"    {line}\n" for line in error.tail))
        return 1
    finally:
        supervisor.stop()
        console.line("test", "stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
