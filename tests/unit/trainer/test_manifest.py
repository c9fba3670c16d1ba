"""A checkpoint is whole or it is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer import manifest


def checkpoint(job: Path, step: int, *, valid: float | None = None) -> Path:
    folder = job / f"checkpoint-{step}"
    (folder / "inner").mkdir(parents=True)
    (folder / "adapter.bin").write_bytes(b"a" * (step * 1000))
    (folder / "inner" / "state.bin").write_bytes(b"s" * step)
    manifest.seal(folder, step, loss=1 / step, valid_loss=valid)
    return folder


def test_what_was_sealed_verifies(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 4, valid=0.5)
    found = manifest.verify(folder)
    assert found is not None
    assert (found.step, found.loss, found.valid_loss) == (4, 0.25, 0.5)
    assert set(found.files) == {"adapter.bin", "inner/state.bin"}


@pytest.mark.parametrize("harm", ["cut", "changed", "missing", "no manifest", "half a manifest"])
def test_what_was_harmed_does_not(tmp_path: Path, harm: str) -> None:
    checkpoint(tmp_path, 4)
    folder = checkpoint(tmp_path, 8)
    state, sealed = folder / "inner" / "state.bin", folder / manifest.FILE
    match harm:
        case "cut":
            state.write_bytes(state.read_bytes()[:-1])
        case "changed":
            state.write_bytes(b"t" + state.read_bytes()[1:])
        case "missing":
            state.unlink()
        case "no manifest":
            sealed.unlink()
        case _:
            sealed.write_bytes(sealed.read_bytes()[:20])
    assert manifest.verify(folder) is None
    found = manifest.newest(tmp_path)
    assert found is not None
    assert found[0].name == "checkpoint-4"


def test_a_folder_renamed_to_another_step_is_not_taken(tmp_path: Path) -> None:
    checkpoint(tmp_path, 4).rename(tmp_path / "checkpoint-9")
    assert manifest.newest(tmp_path) is None


def test_the_latest_stay_and_the_best(tmp_path: Path) -> None:
    for step, valid in ((1, 0.9), (2, 0.3), (3, 0.5), (4, 0.6), (5, 0.7)):
        checkpoint(tmp_path, step, valid=valid)
    (tmp_path / "checkpoint-6").mkdir()
    (tmp_path / "checkpoint-best").mkdir()
    manifest.prune(tmp_path, keep=2)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["checkpoint-2", "checkpoint-4", "checkpoint-5", "checkpoint-best"]
