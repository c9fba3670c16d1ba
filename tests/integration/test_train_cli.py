"""`aihub train` against a running hub whose children only pretend to train."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub import Hub, running_hub
from tests.server import temporary_home
from tests.trainers import prepare, stand_in


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with temporary_home() as place:
        toml = prepare(place, stand_in(place, 0.05))
        with running_hub(toml) as hub:
            (place / "datasets").rename(hub.home / "datasets")
            yield hub


def train(hub: Hub, *arguments: str) -> subprocess.CompletedProcess[str]:
    base = ("--base-url", hub.base_url, "--key", hub.key)
    return subprocess.run(
        [sys.executable, "-m", "deploy.main", "train", *base, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=dict(os.environ),
        check=False,
    )


def test_a_job_from_its_file_to_its_picture(hub: Hub, tmp_path: Path) -> None:
    file = str(hub.home / "datasets" / "a.jsonl")
    made = train(hub, "create", file, "--model", "tiny", "--name", "mine", "--epochs", "2")
    assert made.returncode == 0, made.stderr
    lines = made.stdout.splitlines()
    assert lines[-1].startswith("ft:tiny:default:mine:")
    assert sum(line.startswith("[") for line in lines) == 24
    listed = train(hub, "list").stdout
    assert lines[0] in listed
    assert lines[-1] in listed
    target = tmp_path / "loss.svg"
    drawn = train(hub, "loss", lines[0], "--to", str(target))
    assert drawn.returncode == 0, drawn.stderr
    assert target.read_text().startswith("<svg")


def test_a_job_is_paused_resumed_and_cancelled(hub: Hub) -> None:
    file = str(hub.home / "datasets" / "a.jsonl")
    (id_,) = train(hub, "create", file, "--model", "tiny", "--detach").stdout.split()
    assert train(hub, "pause", id_).stdout == f"{id_} is paused\n"
    assert " is " in train(hub, "resume", id_).stdout
    assert train(hub, "cancel", id_).stdout == f"{id_} is cancelled\n"
    watched = train(hub, "watch", id_)
    assert (watched.returncode, "cancelled" in watched.stderr) == (1, True)


def test_an_estimate_trains_nothing(hub: Hub) -> None:
    file = str(hub.home / "datasets" / "a.jsonl")
    told = train(hub, "estimate", file, "--model", "tiny", "--epochs", "4")
    assert told.returncode == 0, told.stderr
    lines = told.stdout.splitlines()
    assert "4 epochs" in lines[0]
    assert any(line.startswith("learning_rate ") for line in lines)
    assert re.search(r"^\d+ min \d+ s at \d+ tokens/s, (measured|estimated): ", told.stdout, re.M)
    assert re.search(r"MiB of the device, (measured|estimated); by a dry run base ", told.stdout)
    newest = train(hub, "list", "--last", "1").stdout.splitlines()[-1]
    assert newest.split()[1:3] == ["cancelled", "-"]


def test_a_tuned_model_is_taken_away(hub: Hub, tmp_path: Path) -> None:
    file = str(hub.home / "datasets" / "a.jsonl")
    model = train(hub, "create", file, "--model", "tiny").stdout.splitlines()[-1]
    target = tmp_path / "mine.tar"
    taken = train(hub, "export", model, "--format", "adapter", "--out", str(target))
    assert taken.returncode == 0, taken.stderr
    assert taken.stdout.startswith(f"{target} (")
    with tarfile.open(target) as tar:
        names = [Path(name).name for name in tar.getnames()]
    assert names == ["adapter_config.json", "adapter_model.safetensors"]
    small = train(hub, "export", model, "--format", "gguf", "--quantisation", "q4_k_m")
    assert (small.returncode, "never merged into 4 bits" in small.stderr) == (1, True)
    broken = train(hub, "export", model, "--format", "safetensors")
    assert (broken.returncode, "the export failed" in broken.stderr) == (1, True)
    none = train(hub, "export", "ft:none", "--format", "adapter")
    assert (none.returncode, "model_not_found" in none.stderr) == (1, True)


def test_what_is_refused_is_told(hub: Hub) -> None:
    refused = train(hub, "create", "/none/such.jsonl", "--model", "tiny")
    assert refused.returncode == 1
    assert "/none/such.jsonl" in refused.stderr
