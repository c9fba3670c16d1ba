"""Which files a model's answers come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.weights import WeightsError
from worker.identity import PIECE, PIECES, Identity

LARGE = PIECE * PIECES * 3


def told(path: Path) -> str:
    identity = Identity(lambda: path)
    identity.look()
    return identity.digest


def test_the_same_files_are_the_same_anywhere(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.safetensors").write_bytes(b"x" * LARGE)
        (tmp_path / folder / "config.json").write_text("{}")
        (tmp_path / folder / ".lock").write_text(folder)
    assert told(tmp_path / "a") == told(tmp_path / "b") != ""
    assert told(tmp_path / "a" / "model.safetensors") != told(tmp_path / "a")


@pytest.mark.parametrize("at", [0, LARGE // 2, LARGE - 1])
def test_other_weights_are_told_apart(tmp_path: Path, at: int) -> None:
    one, other = tmp_path / "a.gguf", tmp_path / "b" / "a.gguf"
    other.parent.mkdir()
    one.write_bytes(b"x" * LARGE)
    other.write_bytes(b"x" * (at // PIECE * PIECE) + b"y" * (LARGE - at // PIECE * PIECE))
    assert told(one) != told(other)
    other.write_bytes(b"x" * (LARGE - 1))
    assert told(one) != told(other)


def test_files_that_change_while_they_are_loaded_are_told_when_they_are_loaded_again(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"old")
    identity = Identity(lambda: path)
    identity.hold()
    old = identity.digest
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "new").replace(path)
    identity.look()
    assert identity.digest == old
    identity.release()
    identity.look()
    assert identity.digest not in ("", old)


def test_files_that_an_engine_fetches_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    identity = Identity(lambda: path)
    identity.hold()
    assert identity.digest == ""
    path.write_bytes(b"here")
    identity.look()
    assert identity.digest == told(path) != ""


def test_files_that_lack_have_no_name(tmp_path: Path) -> None:
    def lacks() -> Path:
        raise WeightsError("none")

    identity = Identity(lacks)
    identity.look()
    assert identity.digest == ""
    assert told(tmp_path / "none.gguf") == ""
