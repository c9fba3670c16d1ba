"""Names of tuned models, and where they lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer import naming
from trainer.shelf import FILES, Shelf


def test_names_tell_jobs_apart_and_stay() -> None:
    one, other = naming.model("m", "My Team!", "v1", "a"), naming.model("m", "My Team!", "v1", "b")
    assert one != other
    assert one == naming.model("m", "My Team!", "v1", "a")
    assert one == f"ft:m:my-team:v1:{naming.short('a')}"
    assert (
        naming.model("m", "日本", None, "a", 4) == f"ft:m:project::{naming.short('a')}:ckpt-step-4"
    )


def adapter(folder: Path, content: bytes = b"w") -> Path:
    folder.mkdir()
    for file in FILES:
        (folder / file).write_bytes(content)
    (folder / "optimizer.pt").write_bytes(b"x" * 100)
    return folder


def test_a_shelf_has_the_adapter_alone(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    path, size = shelf.put(adapter(tmp_path / "one"), "job", 3)
    assert sorted(p.name for p in (tmp_path / path).iterdir()) == sorted(FILES)
    assert size == len(FILES)
    again, _ = shelf.put(adapter(tmp_path / "two", b"other"), "job", 3)
    assert again == path
    assert (tmp_path / path / FILES[0]).read_bytes() == b"w"
    shelf.remove(path)
    shelf.remove(path)
    assert not (tmp_path / path).exists()


def test_what_was_half_copied_is_copied_anew(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    torn = tmp_path / "tuned" / f"{naming.short('job')}.part"
    torn.mkdir(parents=True)
    (torn / "left").write_text("x")
    path, _ = shelf.put(adapter(tmp_path / "one"), "job")
    assert sorted(p.name for p in (tmp_path / path).iterdir()) == sorted(FILES)


@pytest.mark.parametrize("path", ["../x", "tuned", "tuned/", "tuned/../x", "tuned/a/b", "models/x"])
def test_nothing_else_is_removed(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError):
        Shelf(tmp_path).remove(path)


def test_llama_cpp_is_given_its_own_form(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    gguf = tmp_path / "x.gguf"
    gguf.write_bytes(b"gguf")
    path, size = shelf.put(adapter(tmp_path / "one"), "job", gguf=gguf)
    assert (tmp_path / path).read_bytes() == b"gguf"
    assert size == len(FILES) + 4
    shelf.remove(path)
    assert list((tmp_path / "tuned").iterdir()) == []
