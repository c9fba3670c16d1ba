"""What the training environment's interpreter is given: `python bootstrap.py COMMAND ...`.

The interpreter finds our modules beside this file and none of the packages that are installed
beside them: those were made for the hub's own interpreter.
"""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("shared", "trainer")


def find_ours() -> None:
    """Make the packages known by their folders alone."""
    for name in PACKAGES:
        package = types.ModuleType(name)
        package.__path__ = [str(ROOT.joinpath(*name.split(".")))]
        sys.modules[name] = package


if __name__ == "__main__":
    del sys.path[0]
    find_ours()
    sys.exit(importlib.import_module("trainer.child.main").main(sys.argv[1:]))
