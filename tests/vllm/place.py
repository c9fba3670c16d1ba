"""Where the tests of vLLM find its interpreter and weights; both are made once."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

from tests import models

ROOT = Path(__file__).parents[2]
UNPACK = Path(__file__).with_name("unpack.py")


def python() -> str:
    """The interpreter that has vLLM: TEST_VLLM_PYTHON, else what `make test-vllm` installs."""
    named = os.environ.get("TEST_VLLM_PYTHON") or str(ROOT / ".venv" / "vllm" / "bin" / "python")
    assert Path(named).is_file(), f"{named} does not exist: run the tests with `make test-vllm`"
    return named


def weights() -> Path:
    """The embedded chat model as a Hugging Face folder, shared by all runs of this user."""
    store = models.folder()
    folder = store.parent / "hugging-face" / models.CHAT
    folder.parent.mkdir(exist_ok=True)
    with (folder.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            file = store / f"{models.CHAT}.q8_0.gguf"
            subprocess.run([python(), UNPACK, file, folder], check=True, timeout=300)
    return folder
