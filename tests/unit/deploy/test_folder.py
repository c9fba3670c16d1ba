from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploy.embedded import folder
from deploy.embedded.folder import EmbeddedError


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_private_folder_is_made_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    assert folder.private(path) == path
    assert mode(path) == 0o700
    (path / "file").touch()
    folder.private(path)
    assert (path / "file").exists()


def test_an_own_folder_that_is_open_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.mkdir()
    path.chmod(0o755)
    folder.private(path)
    assert mode(path) == 0o700


@pytest.mark.parametrize(("before", "after"), [(0o755, 0o700), (0o770, 0o700), (0o1777, 0o1777)])
def test_an_open_home_is_closed_unless_many_share_it(
    tmp_path: Path, before: int, after: int
) -> None:
    tmp_path.chmod(before)
    folder.own(tmp_path)
    assert tmp_path.stat().st_mode & 0o7777 == after
    assert mode(folder.own(tmp_path / "new" / "home")) == 0o700


def test_an_empty_folder_is_removed_and_a_used_one_is_not(tmp_path: Path) -> None:
    for name in ("used", "empty"):
        (tmp_path / name).mkdir()
    (tmp_path / "used" / "a.sock").touch()
    folder.remove_empty(tmp_path / "used", tmp_path / "empty", tmp_path / "gone")
    assert [path.name for path in tmp_path.iterdir()] == ["used"]


def test_a_folder_of_another_account_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match="belongs to"):
        folder.private(tmp_path, uid=os.geteuid() + 1)
    assert tmp_path.is_dir()


def test_a_link_and_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(EmbeddedError, match="must be a folder"):
            folder.private(tmp_path / name)


def test_a_lock_is_held_until_its_descriptor_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("4294967295 left by an earlier run\n")
    held = folder.lock(path)
    assert path.read_text() == f"{os.getpid()}\n"
    with pytest.raises(EmbeddedError, match=f"process {os.getpid()}"):
        folder.lock(path)
    os.close(held)
    os.close(folder.lock(path))


def test_a_written_file_has_its_mode_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    folder.write(path, "one", 0o600)
    folder.write(path, "two", 0o600)
    assert (path.read_text(), mode(path)) == ("two", 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_a_package_that_is_missing_says_what_to_install() -> None:
    with pytest.raises(EmbeddedError, match=r"ai-backend-hub\[embedded\]"):
        folder.package("no_such_package_anywhere")
