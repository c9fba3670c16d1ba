"""The administrators' API over a whole hub: what it does, logs and leaves alone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import psycopg
import pytest

from tests.contract.client import Client
from tests.desk import Desk
from tests.hub import running_hub

ADMIN = "//api/v1/admin"


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
