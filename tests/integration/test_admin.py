"""The administrators' API over a whole hub: what it does, logs, refuses, and leaves alone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from shared.settings import Settings
from tests.contract.client import Client, Reply
from tests.hub import Hub, running_hub

ADMIN = "//api/v1/admin"
BOUND = "cache.semantic.bound"
TABLES = ("organisation", "project", "app_user", "membership", "api_key", "budget", "model_price")


class Desk:
    """A client with a key, and a look into the hub's database."""

    def __init__(self, hub: Hub, key: str | None = None) -> None:
        self.hub = hub
        self.client = Client(hub.base_url, key or hub.key)

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        raw = None if body is None else json.dumps(body).encode()
        target = path if path.startswith("/v1") else f"/api/v1/admin{path}"
        return self.client.send(method, f"/{target}", raw, headers)

    def ok(self, method: str, path: str, body: Any = None) -> Any:
        reply = self.send(method, path, body)
        assert reply.status == 200, reply.body
        return reply.json

    def key(self, **fields: Any) -> Any:
        return self.ok("POST", "/keys", {"name": "test", **fields})

    def like(self, key: str) -> Desk:
        return Desk(self.hub, key)

    def rows(self, query: str) -> list[Any]:
        with self._connect() as connection:
            return connection.execute(query).fetchall()  # type: ignore[arg-type]

    def execute(self, statement: str) -> None:
        with self._connect() as connection:
            connection.execute(statement)  # type: ignore[arg-type]

    def _connect(self) -> psycopg.Connection:
        sockets = Settings(home=str(self.hub.home)).sockets
        return psycopg.connect(f"postgresql://aihub@/aihub?host={sockets}")

    def state(self) -> list[Any]:
        """Every row an administrator can change, and the number of audit rows."""
        tables = [self.rows(f"SELECT t::text FROM {name} t ORDER BY 1") for name in TABLES]
        return [*tables, self.rows("SELECT count(*) FROM audit")]


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    with running_hub() as hub:
        yield Desk(hub)


@pytest.fixture(scope="module")
def project(desk: Desk) -> str:
    return str(desk.ok("POST", "/projects", {"name": "Law"})["id"])


def test_a_key_lives_rotates_and_dies(desk: Desk, project: str) -> None:
    made = desk.key(project=project, models=[desk.hub.chat_model], limits={"concurrent": 3})
    assert made["value"].startswith("sk-aihub-")
    assert made["redacted_value"] == made["value"][:14] + "…"
    shown = desk.ok("GET", f"/keys/{made['id']}")
    assert "value" not in shown
    assert shown["limits"]["concurrent"] == 3
    old = desk.like(made["value"])
    names = [model["id"] for model in old.ok("GET", "/v1/models")["data"]]
    assert names == [desk.hub.chat_model]
    rotated = desk.ok("POST", f"/keys/{made['id']}/rotate", {"grace_seconds": 60})
    new = desk.like(rotated["value"])
    assert (old.send("GET", "/v1/models").status, new.send("GET", "/v1/models").status) == (
        200,
        200,
    )
    assert rotated["previous_until"] - time.time() == pytest.approx(60, abs=10)
    again = desk.ok("POST", f"/keys/{made['id']}/rotate", {"grace_seconds": 0})
    last = desk.like(again["value"])
    assert last.send("GET", "/v1/models").status == 200
    assert refused_soon(old)
    assert refused_soon(new)
    assert desk.ok("DELETE", f"/keys/{made['id']}")["deleted"] is True
    assert refused_soon(last)
    assert desk.ok("DELETE", f"/keys/{made['id']}")["deleted"] is True
    assert desk.send("POST", f"/keys/{made['id']}/rotate").status == 409


def refused_soon(desk: Desk) -> bool:
    """Well before the 10 s after which a gateway looks again by itself."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if desk.send("GET", "/v1/models").status == 401:
            return True
        time.sleep(0.005)
    return False


def test_a_key_expires(desk: Desk) -> None:
    made = desk.key(expires_in_seconds=1)
    assert abs(made["expires_at"] - time.time()) < 5
    assert refused_soon(desk.like(made["value"]))


def test_scopes_decide(desk: Desk) -> None:
    reader = desk.like(desk.key(scopes=["admin.read"])["value"])
    assert reader.send("GET", "/keys").status == 200
    assert reader.client.send("GET", "//metrics").status == 200
    for method, path in (("POST", "/keys"), ("DELETE", "/keys/x"), ("PUT", "/prices/x")):
        refused = reader.send(method, path, {"name": "x"})
        assert (refused.status, refused.error["code"]) == (403, "insufficient_permissions")
    assert reader.send("GET", "/v1/models").status == 403
    plain = desk.like(desk.key()["value"])
    assert plain.send("GET", "/v1/models").status == 200
    assert plain.send("GET", "/keys").status == 403
    assert plain.client.send("GET", "//metrics").status == 403
    assert plain.client.send("GET", "//api/v1/session").json["scopes"] == ["inference"]


def test_a_key_cannot_make_or_take_over_a_stronger_one(desk: Desk) -> None:
    stronger = desk.key(scopes=["inference", "files"])
    weak = desk.like(desk.key(scopes=["admin"], expires_in_seconds=3600)["value"])
    before = desk.state()
    soon = int(time.time()) + 60
    for method, path, body in (
        ("POST", "/keys", {"name": "x", "scopes": ["inference"], "expires_at": soon}),
        ("POST", "/keys", {"name": "x", "scopes": ["admin"]}),
        ("PATCH", f"/keys/{stronger['id']}", {"name": "mine"}),
        ("POST", f"/keys/{stronger['id']}/rotate", {}),
    ):
        assert weak.send(method, path, body).status == 403
    assert desk.state() == before
    made = weak.ok("POST", "/keys", {"name": "x", "scopes": ["admin.read"], "expires_at": soon})
    assert made["scopes"] == ["admin.read"]


def test_what_openai_gives_no_way_to_say_comes_from_the_maker(desk: Desk) -> None:
    """OpenAI's requests name neither scopes nor models, and service accounts no expiry."""
    mine = {"scopes": ["admin", "inference"], "models": [desk.hub.chat_model]}
    maker = desk.like(desk.key(**mine, expires_in_seconds=600)["value"])
    admin = maker.ok("POST", "/v1/organization/admin_api_keys", {"name": "a"})
    assert set(admin["scopes"]) == {"admin", "admin.read", "inference"}
    path = "/v1/organization/projects/proj_default/service_accounts"
    bot = maker.ok("POST", path, {"name": "bot"})
    made = desk.ok("GET", f"/keys/{bot['id']}")
    assert (made["scopes"], made["models"]) == (["inference"], [desk.hub.chat_model])
    assert all(abs(key["expires_at"] - time.time() - 600) < 10 for key in (admin, made))


def test_a_change_believes_the_database_and_no_memory(desk: Desk) -> None:
    """The gateway has not been told and still remembers what the key was."""
    made = desk.key(scopes=["admin", "inference"])
    admin = desk.like(made["value"])
    for fields, status in (
        ("scopes = '{admin}'", 403),
        ("scopes = '{inference}'", 403),
        ("revoked_at = now()", 401),
    ):
        assert admin.send("GET", "/keys").status == 200
        desk.execute(f"UPDATE api_key SET {fields} WHERE id = '{made['id']}'")
        assert admin.send("POST", "/keys", {"name": "x"}).status == status


def test_a_model_that_is_not_allowed(desk: Desk) -> None:
    key = desk.like(desk.key(models=[desk.hub.chat_model])["value"])
    body = {"model": desk.hub.embedding_model, "input": "a"}
    refused = key.send("POST", "/v1/embeddings", body)
    assert (refused.status, refused.error["code"]) == (403, "model_not_allowed")
    assert key.send("GET", f"/v1/models/{desk.hub.embedding_model}").status == 403
    chat = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    assert key.send("POST", "/v1/chat/completions", {"model": "auto", **chat}).status == 200


def test_the_bootstrap_key_stays(desk: Desk) -> None:
    keys = desk.ok("GET", "/keys?limit=100")["data"]
    (first,) = [key for key in keys if key["bootstrap"]]
    before = desk.state()
    for method, path, body in (
        ("DELETE", f"/keys/{first['id']}", None),
        ("DELETE", f"/v1/organization/admin_api_keys/{first['id']}", None),
        ("POST", f"/keys/{first['id']}/rotate", {}),
        ("PATCH", f"/keys/{first['id']}", {"scopes": ["inference"]}),
        ("PATCH", f"/keys/{first['id']}", {"expires_at": 1}),
        ("DELETE", "/projects/proj_default", None),
    ):
        assert desk.send(method, path, body).status == 409, path
    assert desk.state() == before


def test_members_and_their_keys(desk: Desk, project: str) -> None:
    user = desk.ok("POST", "/users", {"email": "Ann@Example.org", "name": "Ann"})["id"]
    stranger = desk.send("POST", "/keys", {"name": "x", "project": project, "user": user})
    assert (stranger.status, stranger.error["param"]) == (400, "user")
    members = f"/projects/{project}/users"
    assert desk.ok("POST", members, {"email": "ann@example.org", "role": "member"})["id"] == user
    assert desk.send("POST", members, {"user_id": user, "role": "member"}).status == 409
    assert desk.ok("POST", f"{members}/{user}", {"role": "owner"})["role"] == "owner"
    key = desk.like(desk.key(project=project, user=user)["value"])
    other = desk.like(desk.key(project=project)["value"])
    assert key.send("GET", "/v1/models").status == 200
    desk.ok("DELETE", f"{members}/{user}")
    assert refused_soon(key)
    assert other.send("GET", "/v1/models").status == 200
    desk.ok("DELETE", f"/users/{user}")
    assert desk.send("GET", f"/users/{user}").status == 404


def test_an_owner_of_the_organisation_needs_no_membership(desk: Desk, project: str) -> None:
    user = desk.ok("POST", "/users", {"email": "o@example.org", "name": "O", "role": "owner"})
    made = desk.key(project=project, user=user["id"])
    assert (made["owner"]["type"], made["owner_project_access"]) == ("user", "active")
    desk.ok("DELETE", f"/users/{user['id']}")
    assert desk.ok("GET", f"/keys/{made['id']}")["revoked_at"] is not None


def test_an_archived_project_stops_its_keys(desk: Desk) -> None:
    made = desk.ok("POST", "/projects", {"name": "Over"})["id"]
    key = desk.like(desk.key(project=made)["value"])
    assert key.send("GET", "/v1/models").status == 200
    assert desk.ok("POST", f"/projects/{made}/archive")["status"] == "archived"
    assert refused_soon(key)
    assert desk.send("POST", "/keys", {"name": "x", "project": made}).status == 409
    assert desk.send("PATCH", f"/projects/{made}", {"name": "y"}).status == 409
    desk.ok("DELETE", f"/projects/{made}")
    assert made not in [one["id"] for one in desk.ok("GET", "/projects?limit=100")["data"]]


def test_every_action_leaves_one_audit_row_with_before_and_after(desk: Desk) -> None:
    model = desk.hub.chat_model
    began = desk.rows("SELECT coalesce(max(id), '') FROM audit")[0][0]
    p = desk.ok("POST", "/projects", {"name": "Audited"})["id"]
    desk.ok("PATCH", f"/projects/{p}", {"limits": {"requests_per_minute": 5}})
    desk.ok("PATCH", f"/projects/{p}", {"limits": {"requests_per_minute": 5}})
    u = desk.ok("POST", "/users", {"email": "b@example.org", "name": "Bob"})["id"]
    desk.ok("POST", f"/users/{u}", {"role": "owner"})
    desk.ok("POST", f"/projects/{p}/users", {"user_id": u, "role": "member"})
    desk.ok("POST", f"/projects/{p}/users/{u}", {"role": "owner"})
    k = desk.key(project=p)
    desk.ok("PATCH", f"/keys/{k['id']}", {"name": "renamed"})
    rotated = desk.ok("POST", f"/keys/{k['id']}/rotate")
    b = desk.ok(
        "POST", "/budgets", {"owner": "key", "owner_id": k["id"], "period": "day", "tokens": 9}
    )
    desk.ok("PATCH", f"/budgets/{b['id']}", {"micros": 5})
    desk.ok("DELETE", f"/budgets/{b['id']}")
    desk.ok("PUT", f"/prices/{model}", {"input": 7})
    desk.ok("PUT", f"/prices/{model}", {"input": 7})
    desk.ok("DELETE", f"/prices/{model}")
    desk.ok("DELETE", f"/keys/{k['id']}")
    desk.ok("DELETE", f"/projects/{p}/users/{u}")
    desk.ok("DELETE", f"/users/{u}")
    desk.ok("DELETE", f"/projects/{p}")
    rows = desk.rows(
        f"SELECT action, target, before, after, actor_key, request_id FROM audit"
        f" WHERE id > '{began}' ORDER BY id"
    )
    assert [(action, target) for action, target, *_ in rows] == [
        ("project.created", p),
        ("project.updated", p),
        ("user.added", u),
        ("user.updated", u),
        ("membership.created", u),
        ("membership.updated", u),
        ("api_key.created", k["id"]),
        ("api_key.updated", k["id"]),
        ("api_key.rotated", k["id"]),
        ("budget.created", b["id"]),
        ("budget.updated", b["id"]),
        ("budget.deleted", b["id"]),
        ("price.updated", model),
        ("price.deleted", model),
        ("api_key.deleted", k["id"]),
        ("membership.deleted", u),
        ("user.deleted", u),
        ("project.archived", p),
    ]
    assert all(actor.startswith("key_") and asked.startswith("req_") for *_, actor, asked in rows)
    updated = rows[1]
    assert updated[2]["limits"]["requests_per_minute"] is None
    assert updated[3]["limits"]["requests_per_minute"] == 5
    assert k["value"] not in repr(rows)
    assert rotated["value"] not in repr(rows)


def test_the_audit_log_cannot_be_rewritten(desk: Desk, project: str) -> None:
    for statement in ("UPDATE audit SET action = 'x'", "DELETE FROM audit", "TRUNCATE audit"):
        with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
            desk.rows(statement)
    assert project


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
    desk: Desk, project: str, method: str, path: str, body: Any, status: int, param: str | None
) -> None:
    before = desk.state()
    reply = desk.send(method, path, body)
    assert (reply.status, reply.error["param"]) == (status, param), reply.body
    assert desk.state() == before


def test_a_price_for_a_model_must_be_a_price(desk: Desk) -> None:
    for body, param in (({"input": -1}, "input"), ({"per_call": 1}, "per_call")):
        reply = desk.send("PUT", f"/prices/{desk.hub.chat_model}", body)
        assert (reply.status, reply.error["param"]) == (400, param)


def test_lists_are_read_page_by_page(desk: Desk) -> None:
    made = [desk.key(name=f"page {number}")["id"] for number in range(5)]
    for order in ("asc", "desc"):
        seen: list[str] = []
        after = ""
        while True:
            page = desk.ok("GET", f"/keys?limit=2&order={order}{after}")
            seen += [key["id"] for key in page["data"]]
            if not page["has_more"]:
                break
            after = f"&after={page['last_id']}"
        assert seen == sorted(seen, reverse=order == "desc")
        assert set(made) <= set(seen)


def test_a_login_does_what_its_key_may(desk: Desk) -> None:
    made = desk.key(scopes=["admin"], name="browser")
    nobody = Client(desk.hub.base_url, None)
    where = "//api/v1/session"
    assert nobody.send("POST", where, b'{"key": "sk-wrong"}').status == 401
    assert nobody.send("POST", where, b"{}").status == 401
    evil = {"Origin": "https://evil.example"}
    body = json.dumps({"key": made["value"]}).encode()
    assert nobody.send("POST", where, body, evil).status == 403
    login = nobody.send("POST", where, body)
    assert (login.status, login.json["key"], login.json["session"]) == (200, made["id"], True)
    assert "HttpOnly; SameSite=Strict" in login.headers["set-cookie"]
    cookie = {"Cookie": login.headers["set-cookie"].partition(";")[0]}
    assert nobody.send("GET", where, headers=cookie).json["name"] == "browser"
    assert nobody.send("GET", f"{ADMIN}/keys", headers=cookie).status == 200
    assert nobody.send("GET", "/models", headers=cookie).status == 403
    patch = json.dumps({"name": "renamed"}).encode()
    target = f"{ADMIN}/keys/{made['id']}"
    assert nobody.send("PATCH", target, patch, cookie).status == 403
    meant = {**cookie, "X-AIHub-Session": "1"}
    assert nobody.send("PATCH", target, patch, {**meant, **evil}).status == 403
    assert nobody.send("PATCH", target, patch, meant).json["name"] == "renamed"
    entry = desk.ok("GET", f"/audit?resource_ids[]={made['id']}&limit=1")["data"][0]
    assert (entry["type"], entry["actor"]["type"]) == ("api_key.updated", "session")
    assert nobody.send("DELETE", where, headers=cookie).status == 403
    assert nobody.send("DELETE", where, headers=meant).status == 204
    assert nobody.send("GET", where, headers=cookie).status == 401
    types = [one["type"] for one in desk.ok("GET", "/audit?limit=10")["data"]]
    assert {"login.succeeded", "logout.succeeded"} <= set(types)
