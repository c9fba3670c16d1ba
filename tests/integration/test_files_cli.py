"""`aihub files` against a running hub, as its user sees it."""

from __future__ import annotations

import os
from pathlib import Path

from deploy.sending import LARGE
from tests.command import aihub, said
from tests.hub import Hub


def test_from_upload_to_deletion(hub: Hub, tmp_path: Path) -> None:
    path = tmp_path / 'träin "1".jsonl'
    path.write_bytes(b'{"messages": []}\n' * 20)
    id_ = said(hub, "files", "upload", str(path), "--expires", "2h").strip()
    row = next(line for line in said(hub, "files", "list").splitlines() if line.startswith(id_))
    assert path.name in row and " fine-tune " in row and "340 B" in row and row.endswith("Z")
    assert id_ not in said(hub, "files", "list", "--purpose", "evals")
    assert said(hub, "files", "content", id_).encode() == path.read_bytes()
    copy = tmp_path / "copy"
    assert said(hub, "files", "content", id_, "--output", str(copy)) == ""
    assert copy.read_bytes() == path.read_bytes()
    assert "is deleted" in said(hub, "files", "delete", id_)
    assert id_ not in said(hub, "files", "list")


def test_a_large_file_goes_in_parts(hub: Hub, tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    with path.open("wb") as file:
        for _ in range(LARGE // (1 << 20) + 1):
            file.write(os.urandom(1 << 20))
        file.write(b"end")
    id_ = said(hub, "files", "upload", str(path), "--purpose", "user_data").strip()
    copy = tmp_path / "copy"
    said(hub, "files", "content", id_, "--output", str(copy))
    assert copy.read_bytes() == path.read_bytes()
    said(hub, "files", "delete", id_)


def test_what_goes_wrong_is_one_line(hub: Hub, tmp_path: Path) -> None:
    empty, full = tmp_path / "empty", tmp_path / "full"
    empty.write_bytes(b"")
    full.write_bytes(b"x" * 20_000_000)
    for arguments, words in (
        (("upload", str(tmp_path / "none")), "cannot be read: No such file"),
        (("upload", str(empty)), "it is empty"),
        (("upload", str(full), "--expires", "1s"), "must be 3600 to 2592000"),
        (("content", "file-0"), "No such file"),
        (("content", "file-0", "--output", str(tmp_path / "a")), "No such file"),
        (("content", "file-0", "--output", "/nowhere/a"), "cannot be written"),
        (("delete", "file-0"), "No such file"),
    ):
        done = aihub(hub, "files", *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert words in done.stderr
        assert done.stderr.startswith("aihub files: ")
        assert done.stderr.count("\n") == 1
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "a.part").exists()
