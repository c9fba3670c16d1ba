from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploy.embedded import account
from deploy.embedded.account import Account, allows, reaches
from deploy.embedded.folder import EmbeddedError

OWN = Account("own", os.geteuid(), os.getegid())
SAME_GROUP = Account("same-group", os.geteuid() + 1, os.getegid())
STRANGER = Account("stranger", os.geteuid() + 1, os.getegid() + 1)


@pytest.mark.parametrize(
    ("who", "mode", "expected"),
    [
        (OWN, 0o100, True),
        (OWN, 0o011, False),
        (SAME_GROUP, 0o710, True),
        (SAME_GROUP, 0o701, False),
        (STRANGER, 0o701, True),
        (STRANGER, 0o710, False),
    ],
)
def test_one_class_of_the_mode_counts(
    tmp_path: Path, who: Account, mode: int, expected: bool
) -> None:
    path = tmp_path / "folder"
    path.mkdir(mode=0o700)
    os.chown(path, OWN.uid, OWN.gid)
    path.chmod(mode)
    assert allows(who, path, 1) is expected
    path.chmod(0o700)


def test_one_closed_folder_above_is_enough(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "a").chmod(0o700)
    assert reaches(OWN, inner)
    assert not reaches(STRANGER, inner)


def test_a_link_is_judged_by_where_it_leads(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "inner").mkdir(parents=True)
    closed.chmod(0o700)
    (tmp_path / "link").symlink_to(closed / "inner")
    assert not reaches(STRANGER, tmp_path / "link")


def test_an_account_without_a_name_is_refused() -> None:
    with pytest.raises(EmbeddedError, match="/etc/passwd"):
        account.of(3_999_999_999)


def test_postgres_never_gets_root(tmp_path: Path) -> None:
    assert account.choose(tmp_path / "data").uid != 0
