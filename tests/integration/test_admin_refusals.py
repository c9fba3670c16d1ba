"""What the administrators' API refuses, by name, and that it changes nothing then."""

from __future__ import annotations

from typing import Any

import pytest

from tests.desk import Desk
from tests.hub import Hub

BOUND = "cache.semantic.bound"


@pytest.fixture(scope="module")
def desk(hub: Hub) -> Desk:
    desk = Desk(hub)
    desk.ok("POST", "/projects", {"name": "Law"})
    return desk


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "param"),
    [
        ("POST", "/projects", {}, 400, "name"),
        ("POST", "/projects", {"name": ""}, 400, "name"),
        ("POST", "/projects", {"name": "a\x00b"}, 400, "name"),
        ("POST", "/projects", {"name": "LAW"}, 409, "name"),
        ("POST", "/projects", {"name": "x", "color": 1}, 400, "color"),
        ("POST", "/projects", {"name": "x", "limits": {"rpm": 1}}, 400, "limits.rpm"),
        ("POST", "/projects", {"name": "x", "limits": {"concurrent": 0}}, 400, "limits.concurrent"),
        (
            *("POST", "/projects", {"name": "x", "cache": {"semantic": {"threshold": 2}}}, 400),
            "cache.semantic.threshold",
        ),
        ("POST", "/projects", [], 400, None),
        ("POST", "/projects", {"name": "x", "cache": {"semantic": {"bound": 0}}}, 400, BOUND),
        ("DELETE", "/projects/none/semantic_cache", None, 404, "id"),
        ("DELETE", "/projects/proj_default/semantic_cache?modle=x", None, 400, "modle"),
        ("POST", "/projects/none/semantic_cache/restart", None, 404, "id"),
        ("PATCH", "/projects/none", {}, 404, "id"),
        ("PATCH", "/projects/proj_default", {"name": None}, 400, "name"),
        ("DELETE", "/projects/none", None, 404, "id"),
        ("POST", "/projects/none/archive", None, 404, "id"),
        ("POST", "/projects/none/users", {"user_id": "u", "role": "member"}, 404, "id"),
        ("POST", "/projects/proj_default/users", {"role": "member"}, 400, "user_id"),
        ("POST", "/projects/proj_default/users", {"user_id": "u", "role": "x"}, 400, "role"),
        ("POST", "/projects/proj_default/users", {"user_id": "u", "role": "owner"}, 400, "user_id"),
        ("POST", "/projects/proj_default/users", {"email": "n@n", "role": "owner"}, 400, "email"),
        ("DELETE", "/projects/proj_default/users/none", None, 404, "id"),
        ("POST", "/users", {"name": "x"}, 400, "email"),
        ("POST", "/users", {"name": "x", "email": "no address"}, 400, "email"),
        ("POST", "/users/none", {"role": "owner"}, 404, "id"),
        ("DELETE", "/users/none", None, 404, "id"),
        ("POST", "/keys", {}, 400, "name"),
        ("POST", "/keys", {"name": "x", "scopes": []}, 400, "scopes"),
        ("POST", "/keys", {"name": "x", "scopes": ["root"]}, 400, "scopes[0]"),
        ("POST", "/keys", {"name": "x", "models": ["gpt-9"]}, 400, "models[0]"),
        ("POST", "/keys", {"name": "x", "project": "none"}, 400, "project"),
        ("POST", "/keys", {"name": "x", "user": "none"}, 400, "user"),
        ("POST", "/keys", {"name": "x", "expires_at": 1}, 400, "expires_at"),
        ("POST", "/keys", {"name": "x", "expires_in_seconds": 0}, 400, "expires_in_seconds"),
        (
            *(
                "POST",
                "/keys",
                {"name": "x", "expires_at": 4_000_000_000, "expires_in_seconds": 9},
                400,
            ),
            "expires_in_seconds",
        ),
        ("PATCH", "/keys/none", {}, 404, "id"),
        ("DELETE", "/keys/none", None, 404, "id"),
        ("POST", "/keys/none/rotate", {"grace_seconds": -1}, 400, "grace_seconds"),
        ("POST", "/keys/none/rotate", None, 404, "id"),
        ("POST", "/budgets", {"owner": "key", "owner_id": "x", "period": "day"}, 400, "tokens"),
        (
            *("POST", "/budgets", {"owner": "key", "owner_id": "x", "period": "day", "tokens": 1}),
            *(400, "owner_id"),
        ),
        (
            *("POST", "/budgets", {"owner": "team", "owner_id": "x", "period": "day", "tokens": 1}),
            *(400, "owner"),
        ),
        (
            *("POST", "/budgets", {"owner": "key", "owner_id": "x", "period": "hour", "tokens": 1}),
            *(400, "period"),
        ),
        (
            *("POST", "/budgets", {"owner": "key", "owner_id": "x", "period": "day", "tokens": -1}),
            *(400, "tokens"),
        ),
        ("PATCH", "/budgets/none", {"tokens": 1}, 404, "id"),
        ("DELETE", "/budgets/none", None, 404, "id"),
        ("PUT", "/prices/gpt-9", {"input": 1}, 404, "model"),
        ("DELETE", "/prices/gpt-9", None, 404, "id"),
        ("POST", "/v1/organization/admin_api_keys", {}, 400, "name"),
        ("DELETE", "/v1/organization/admin_api_keys/none", None, 404, "id"),
        ("POST", "/v1/organization/projects/none/service_accounts", {"name": "x"}, 404, "id"),
        ("DELETE", "/v1/organization/projects/none/api_keys/none", None, 404, "id"),
        ("GET", "/audit?limit=0", None, 400, "limit"),
        ("GET", "/audit?after=a&before=b", None, 400, "before"),
        ("GET", "/keys?order=up", None, 400, "order"),
        ("GET", "/projects?page=2", None, 400, "page"),
        ("GET", "/nothing", None, 404, None),
        ("POST", "/audit", {}, 405, None),
        ("PUT", "/keys", {}, 405, None),
    ],
)
def test_bad_input_is_named_and_changes_nothing(
    desk: Desk, method: str, path: str, body: Any, status: int, param: str | None
) -> None:
    before = desk.state()
    reply = desk.send(method, path, body)
    assert (reply.status, reply.error["param"]) == (status, param), reply.body
    assert desk.state() == before


def test_a_price_for_a_model_must_be_a_price(desk: Desk) -> None:
    for body, param in (({"input": -1}, "input"), ({"per_call": 1}, "per_call")):
        reply = desk.send("PUT", f"/prices/{desk.hub.chat_model}", body)
        assert (reply.status, reply.error["param"]) == (400, param)
