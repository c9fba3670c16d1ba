from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from deploy import config
from shared.settings import Settings, SettingsError, load

FILE = """
port = 8100
admin_key = "sk-of-the-file-0123"
database_url = "postgresql://me:hunter2@db.example/hub"

[models."a b"]
engine = "openai"
url = "http://up.example/v1"
api_key = "sk-upstream"
defaults = { temperature = 0.5 }
"""


def shown(folder: Path, environ: dict[str, str]) -> list[str]:
    path = folder / "aihub.toml"
    settings = load(environ, folder)
    return list(config.describe(settings, path if path.exists() else None, environ))


def test_every_value_has_its_source(tmp_path: Path) -> None:
    path = tmp_path / "aihub.toml"
    path.write_text(FILE)
    lines = shown(tmp_path, {"AIHUB_PORT": "8200", "AIHUB_HOME": str(tmp_path)})
    assert "port = 8200  # AIHUB_PORT" in lines
    assert 'host = "127.0.0.1"  # default' in lines
    assert f'admin_key = "[redacted]"  # {path}' in lines
    assert "# redis_url is not set" in lines


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    (tmp_path / "aihub.toml").write_text(FILE)
    text = "\n".join(shown(tmp_path, {"AIHUB_HOME": str(tmp_path)}))
    for secret in ("hunter2", "sk-of-the-file", "sk-upstream"):
        assert secret not in text
    assert "postgresql://me:[redacted]@db.example/hub" in text


def test_what_it_prints_can_be_read_back(tmp_path: Path) -> None:
    text = "\n".join(shown(tmp_path, {"AIHUB_HOME": str(tmp_path)}))
    again = tmp_path / "again"
    again.mkdir()
    (again / "aihub.toml").write_text(text)
    assert load({}, again) == load({"AIHUB_HOME": str(tmp_path)}, tmp_path)
    assert set(tomllib.loads(text)["models"]) == set(load({}, again).models)


@pytest.mark.parametrize("value", ['quote " and \\', "tab\t", "del \x7f", "smile 😀"])
def test_text_survives(value: str) -> None:
    assert tomllib.loads(f"key = {config.toml(value)}")["key"] == value


def test_a_wrong_value_names_its_key(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"log_level, or AIHUB_LOG_LEVEL.*debug, info"):
        load({"AIHUB_LOG_LEVEL": "loud", "AIHUB_HOME": str(tmp_path)}, tmp_path)


def test_settings_have_no_model_by_themselves() -> None:
    assert Settings().models == {}
