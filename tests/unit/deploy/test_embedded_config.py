from __future__ import annotations

from pathlib import Path

from deploy.embedded import orphan, postgres, valkey


def test_postgres_strings_are_quoted() -> None:
    assert postgres.quote("/a/it's\\b") == "'/a/it''s\\\\b'"


def test_valkey_strings_are_quoted() -> None:
    assert valkey.quote(Path('/a "b"\\c')) == '"/a \\"b\\"\\\\c"'


def test_only_the_program_with_this_configuration_is_an_orphan(tmp_path: Path) -> None:
    assert orphan.servers("postgres", tmp_path / "postgresql.conf") == []


def test_a_process_that_is_gone_runs_nothing() -> None:
    assert orphan.program(2**22 + 1) == ""
