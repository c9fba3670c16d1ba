from __future__ import annotations

import stat
from pathlib import Path

import pytest

from deploy import key
from shared.settings import Settings, SettingsError


def test_generates_once(tmp_path: Path) -> None:
    settings = Settings(home=str(tmp_path / "home"))
    assert key.find(settings) is None
    first, second = key.obtain(settings), key.obtain(settings)
    assert first.fresh and not second.fresh
    assert first.value == second.value
    assert first.value.startswith("sk-aihub-") and len(first.value) == 9 + 43
    assert first.path == tmp_path / "home" / "admin.key"
    assert stat.S_IMODE(first.path.stat().st_mode) == 0o600
    assert [path.name for path in first.path.parent.iterdir()] == ["admin.key"]


def test_two_homes_have_two_keys(tmp_path: Path) -> None:
    keys = {key.obtain(Settings(home=str(tmp_path / name))).value for name in ("a", "b")}
    assert len(keys) == 2


def test_settings_come_first(tmp_path: Path) -> None:
    settings = Settings(home=str(tmp_path), admin_key="sk-of-the-settings")
    assert key.obtain(settings) == key.Key("sk-of-the-settings", None)
    assert not list(tmp_path.iterdir())


def test_a_file_that_others_read_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "admin.key"
    path.write_text("sk-aihub-0123456789abcdef\n")
    path.chmod(0o644)
    assert key.obtain(Settings(home=str(tmp_path))).value == "sk-aihub-0123456789abcdef"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "admin.key").write_text("\n")
    with pytest.raises(SettingsError, match=r"admin\.key holds no key"):
        key.obtain(Settings(home=str(tmp_path)))
