"""`aihub keys`, `projects` and `budgets` against a running hub, as their user sees them."""

from __future__ import annotations

from tests.command import aihub, said
from tests.contract.client import Client
from tests.hub import Hub


def test_from_a_project_to_its_end(hub: Hub) -> None:
    project = said(hub, "projects", "create", "Cli", "--rpm", "60").strip()
    assert "60 requests/min" in said(hub, "projects", "list")
    made = aihub(hub, "keys", "create", "ci", "--project", "Cli", "--model", hub.chat_model)
    key = made.stdout.strip()
    assert key.startswith("sk-aihub-")
    assert "shown this once" in made.stderr
    assert Client(hub.base_url, key).send("GET", "/models").status == 200
    row = next(line for line in said(hub, "keys", "list").splitlines() if " ci " in line)
    assert "Cli" in row and hub.chat_model in row and key not in row
    budget = said(hub, "budgets", "set", "--of-key", "ci", "--money", "12.5").strip()
    assert said(hub, "budgets", "set", "--of-key", "ci", "--tokens", "900").strip() == budget
    assert "key ci  month   900" in said(hub, "budgets", "list", "--of-key", "ci")
    said(hub, "budgets", "remove", budget)
    rotated = said(hub, "keys", "rotate", "ci", "--grace", "0s").strip()
    assert Client(hub.base_url, rotated).send("GET", "/models").status == 200
    assert "is revoked" in said(hub, "keys", "revoke", "ci")
    said(hub, "projects", "limit", project, "--concurrent", "2")
    said(hub, "projects", "archive", "Cli")
    assert project not in said(hub, "projects", "list")


def test_what_goes_wrong_is_one_line(hub: Hub) -> None:
    for arguments, words in (
        (("keys", "revoke", "nobody"), "there is no key 'nobody'"),
        (("keys", "create", "x", "--model", "gpt-9"), "there is no model 'gpt-9'"),
        (("budgets", "set", "--of-project", "default"), "say how much"),
        (("keys", "--key", "sk-wrong-key", "list"), "Incorrect API key"),
        (("keys", "--base-url", "http://127.0.0.1:1/v1", "list"), "does not answer"),
    ):
        done = aihub(hub, *arguments)
        assert done.returncode == 1
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
