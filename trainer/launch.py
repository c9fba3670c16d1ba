"""How the child is started: the command line, by the training environment's interpreter."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ENTRY = Path(__file__).parent / "child" / "bootstrap.py"


ENVIRONMENT = {
    "OMP_WAIT_POLICY": "passive",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "PYTHONUNBUFFERED": "1",
}
"""To be added to the child's."""


def train(python: str, folder: Path) -> list[str]:
    """Trains the plan in `folder`; the child ends with the process that starts it.

    Run it in a session of its own, standard input and output as pipes: orders in, reports out, one
    a line. `-I` keeps out whatever PYTHONPATH names.
    """
    return [python, "-I", str(ENTRY), "train", str(folder), str(os.getpid())]


def examine(python: str) -> list[str]:
    """Answers questions, one JSON object a line: estimate.DryRun, survey.Question, survey.Unpack,
    speed.Gauge.

    Status 1: one has no answer, the last line of standard error says why.
    """
    return [python, "-I", str(ENTRY), "examine", str(os.getpid())]


def merge(kind: str, adapter: Path, base: Path, target: Path) -> list[str]:
    """One of merging.KINDS; needs no torch, so it runs in the hub's own environment."""
    return [sys.executable, "-m", "trainer.merging", kind, str(adapter), str(base), str(target)]
