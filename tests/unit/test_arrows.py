"""Who may import whom, read from the source of every module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("gateway", "worker", "trainer", "shared", "migrations", "deploy")
ALLOWED = {
    "shared": {"shared"},
    "gateway": {"gateway", "shared"},
    "worker": {"worker", "shared"},
    "trainer": {"trainer", "shared"},
    "deploy": {"deploy", "shared"},
    "migrations": {"migrations", "shared"},
}
HEAVY = {"torch", "vllm", "pynvml", "transformers", "peft", "trl", "xllamacpp"}
HEAVY_PLACES = ("worker/engines/", "worker/gpu.py", "trainer/child/")
MODULES = [path for package in OURS for path in sorted((ROOT / package).rglob("*.py"))]


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Each imported module as (top-level package, dotted name)."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            yield str(node.module).split(".")[0], str(node.module)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_arrows(path: Path) -> None:
    place = path.relative_to(ROOT).as_posix()
    package = place.split("/")[0]
    for top, name in imports(path):
        if top in OURS:
            assert top in ALLOWED[package], f"{place} imports {name}"
        if top in HEAVY:
            assert place.startswith(HEAVY_PLACES), f"{place} imports {name}"


def reads_environment(path: Path) -> Iterator[int]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb"):
            yield node.lineno


PASSES_IT_ON = {
    "shared/settings.py",
    "deploy/child.py",
    "deploy/config.py",
    "trainer/process.py",
    "worker/process.py",
}
"""The reader, those who hand it to children unchanged, and who tells the sources of settings."""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_settings_read_the_environment(path: Path) -> None:
    place = path.relative_to(ROOT).as_posix()
    if place not in PASSES_IT_ON:
        assert list(reads_environment(path)) == [], f"{place} reads the environment"
