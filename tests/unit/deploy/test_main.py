from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.main import COMMANDS, main


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS)


def test_a_wrong_setting_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIHUB_HOME", str(tmp_path))
    monkeypatch.setenv("AIHUB_PORT", "http")
    assert main(["config"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("aihub: port, or AIHUB_PORT:") and said.err.count("\n") == 1


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from deploy.main import arguments; arguments().format_help();"
        "print([m for m in ('msgspec', 'psycopg', 'redis', 'asyncio') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert ran.stdout.strip() == b"[]"
