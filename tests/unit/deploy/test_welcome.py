from __future__ import annotations

import ast
import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from deploy import welcome
from deploy.key import Key
from shared.settings import DEFAULT_MODELS, Model, Settings

SECRET = "sk-aihub-secret"


def settings(**changes: object) -> Settings:
    return Settings(**{"models": DEFAULT_MODELS, **changes})  # type: ignore[arg-type]


def pasted(line: str, tmp_path: Path) -> list[str]:
    """The words a shell gives to curl."""
    shown = tmp_path / "curl"
    shown.write_text("#!/bin/sh\nfor word; do printf '%s\\0' \"$word\"; done\n")
    shown.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin", "AIHUB_ADMIN_KEY": SECRET}
    ran = subprocess.run(["sh", "-c", line], env=environ, capture_output=True, check=True)
    return ran.stdout.decode().split("\0")[:-1]


def keys(folder: Path) -> list[Key]:
    folder.mkdir()
    path = folder / "admin.key"
    path.write_text(SECRET + "\n")
    return [Key(SECRET, path, fresh=True), Key(SECRET, path), Key(SECRET, None)]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_the_curl_line_can_be_pasted(tmp_path: Path, which: int) -> None:
    key = keys(tmp_path / "it's a folder")[which]
    words = pasted(welcome.curl("http://127.0.0.1:8000/v1", key, "smollm2"), tmp_path)
    assert words[0] == "http://127.0.0.1:8000/v1/chat/completions"
    assert f"Authorization: Bearer {SECRET}" in words
    assert json.loads(words[-1])["model"] == "smollm2"


@pytest.mark.parametrize("which", [0, 1, 2])
def test_the_python_snippet_holds_the_key_or_where_it_is(
    tmp_path: Path, which: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIHUB_ADMIN_KEY", SECRET)
    key = keys(tmp_path / "it's a folder")[which]
    tree = ast.parse(welcome.python("http://127.0.0.1:8000/v1", key, "smollm2"))
    client = next(
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "OpenAI"
    )
    given = {word.arg: ast.unparse(word.value) for word in client.keywords}
    assert ast.literal_eval(given["base_url"]) == "http://127.0.0.1:8000/v1"
    assert eval(given["api_key"], {"os": os, "Path": Path}) == SECRET


def test_the_key_is_shown_only_when_it_is_new(tmp_path: Path) -> None:
    fresh, kept, own = keys(tmp_path / "home")
    assert SECRET in welcome.compose(settings(), fresh)
    assert SECRET not in welcome.compose(settings(), kept)
    assert SECRET not in welcome.compose(settings(), own)
    assert shlex.quote(str(kept.path)) in welcome.compose(settings(), kept)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8123/v1"),
        ("0.0.0.0", "http://127.0.0.1:8123/v1"),
        ("::", "http://[::1]:8123/v1"),
        ("::1", "http://[::1]:8123/v1"),
        ("hub.example", "http://hub.example:8123/v1"),
    ],
)
def test_base_url_is_one_a_client_can_use(host: str, url: str) -> None:
    assert welcome.base_url(Settings(host=host, port=8123)) == url


def test_no_chat_model_no_snippet(tmp_path: Path) -> None:
    only = {"vectors": Model(engine="llamacpp", kind="embedding", file="v.gguf")}
    text = welcome.compose(settings(models=only), keys(tmp_path / "home")[1])
    assert "curl" not in text and "vectors" in text
