"""OpenAI's own client administers the hub, and what comes back is of the published shape."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import openai
import pytest
from openai import OpenAI

from tests.caller import Caller
from tests.contract import schema
from tests.contract.client import Client
from tests.hub import Hub

ROOT = "/organization"


@pytest.fixture
def client(hub: Hub) -> Client:
    return Client(hub.base_url, hub.key)


@pytest.fixture
def sdk(hub: Hub) -> Iterator[OpenAI]:
    with OpenAI(base_url=hub.base_url, api_key="unused", admin_api_key=hub.key) as client:
        yield client


def unused_key(listed: Any) -> Any:
    """The document asks for an integer where a key was never used; the service sends null."""
    listed = copy.deepcopy(listed)
    for key in listed.get("data", [listed]):
        assert key["last_used_at"] is None or isinstance(key["last_used_at"], int)
        key["last_used_at"] = key["last_used_at"] or 0
    return listed


def unique(name: str) -> str:
    return f"{name} {uuid4().hex[:8]}"


def test_projects(sdk: OpenAI, client: Client) -> None:
    admin = sdk.admin.organization
    made = admin.projects.create(name=unique("Contract"))
    schema.check("Project", client.send("GET", f"{ROOT}/projects/{made.id}").json)
    schema.check("ProjectListResponse", client.send("GET", f"{ROOT}/projects").json)
    renamed = admin.projects.update(made.id, name=unique("Renamed"))
    assert admin.projects.retrieve(made.id).name == renamed.name != made.name
    assert made.id in [project.id for project in admin.projects.list(limit=1)]
    assert admin.projects.archive(made.id).status == "archived"
    assert made.id not in [project.id for project in admin.projects.list(limit=100)]
    archived = admin.projects.list(limit=100, include_archived=True)
    assert made.id in [project.id for project in archived]


def test_service_accounts_and_project_keys(sdk: OpenAI, client: Client, hub: Hub) -> None:
    admin = sdk.admin.organization
    project = admin.projects.create(name=unique("Keys")).id
    path = f"{ROOT}/projects/{project}"
    account = admin.projects.service_accounts.create(project_id=project, name="bot")
    assert account.api_key is not None
    with OpenAI(base_url=hub.base_url, api_key=account.api_key.value) as bot:
        assert hub.chat_model in [model.id for model in bot.models.list()]
    key = admin.projects.api_keys.retrieve(account.api_key.id, project_id=project)
    assert (key.name, key.owner.type) == ("bot", "service_account")
    assert account.api_key.value.startswith(key.redacted_value.removesuffix("…"))
    listed = client.send("GET", f"{path}/api_keys").json
    schema.check("ProjectApiKeyListResponse", unused_key(listed))
    schema.check(
        "ProjectServiceAccountListResponse", client.send("GET", f"{path}/service_accounts").json
    )
    assert [one.id for one in admin.projects.service_accounts.list(project)] == [account.id]
    deleted = admin.projects.api_keys.delete(key.id, project_id=project)
    assert deleted.deleted
    with pytest.raises(openai.NotFoundError):
        admin.projects.api_keys.retrieve(key.id, project_id="proj_default")


def test_a_new_service_account_is_of_the_published_shape(sdk: OpenAI, client: Client) -> None:
    project = sdk.admin.organization.projects.create(name=unique("Shape")).id
    path = f"{ROOT}/projects/{project}/service_accounts"
    reply = client.send("POST", path, b'{"name": "bot"}')
    schema.check("ProjectServiceAccountCreateResponse", reply.json)
    removed = client.send("DELETE", f"{path}/{reply.json['id']}").json
    schema.check("ProjectServiceAccountDeleteResponse", removed)


def test_users(sdk: OpenAI, client: Client) -> None:
    admin = sdk.admin.organization
    address = f"{uuid4().hex}@example.org"
    body = f'{{"email": "{address}", "name": "Ann"}}'.encode()
    user = client.send("POST", "//api/v1/admin/users", body).json
    schema.check("User", user)
    schema.check("UserListResponse", client.send("GET", f"{ROOT}/users?limit=100").json)
    assert [one.id for one in admin.users.list(emails=[address])] == [user["id"]]
    assert admin.users.update(user["id"], role="owner").role == "owner"
    project = admin.projects.create(name=unique("Users")).id
    member = admin.projects.users.create(project, user_id=user["id"], role="member")
    assert member.email == address
    path = f"{ROOT}/projects/{project}/users"
    schema.check("ProjectUserListResponse", client.send("GET", path).json)
    assert admin.projects.users.update(user["id"], project_id=project, role="owner").role == "owner"
    assert admin.projects.users.delete(user["id"], project_id=project).deleted
    assert admin.users.delete(user["id"]).deleted
    with pytest.raises(openai.NotFoundError):
        admin.users.retrieve(user["id"])


def test_admin_keys(sdk: OpenAI, client: Client, hub: Hub) -> None:
    keys = sdk.admin.organization.admin_api_keys
    made = keys.create(name="second", expires_in_seconds=3600)
    assert made.expires_at is not None
    with OpenAI(base_url=hub.base_url, api_key="unused", admin_api_key=made.value) as second:
        found = second.admin.organization.admin_api_keys.retrieve(made.id)
        assert (found.name, found.object) == ("second", "organization.admin_api_key")
    schema.check("AdminApiKey", client.send("GET", f"{ROOT}/admin_api_keys/{made.id}").json)
    listed = client.send("GET", f"{ROOT}/admin_api_keys?limit=100").json
    for one in listed["data"]:
        schema.check("AdminApiKey", one)
    assert keys.delete(made.id).object == "organization.admin_api_key.deleted"


def test_audit_logs(sdk: OpenAI, client: Client) -> None:
    admin = sdk.admin.organization
    project = admin.projects.create(name=unique("Log")).id
    account = admin.projects.service_accounts.create(project_id=project, name="bot")
    admin.projects.api_keys.delete(account.id, project_id=project)
    admin.projects.archive(project)
    events = list(admin.audit_logs.list(project_ids=[project], limit=1))
    assert [event.type for event in events] == [
        *("project.archived", "api_key.deleted", "api_key.created", "project.created")
    ]
    created = admin.audit_logs.list(resource_ids=[account.id], event_types=["api_key.created"])
    (event,) = list(created)
    assert event.api_key_created is not None
    assert event.api_key_created.id == account.id
    assert event.project is not None
    assert event.project.id == project
    now = event.effective_at
    assert list(admin.audit_logs.list(project_ids=[project], effective_at={"gt": now + 60})) == []
    assert list(admin.audit_logs.list(project_ids=[project], effective_at={"gte": now - 60}))
    listed = client.send("GET", f"{ROOT}/audit_logs?project_ids[]={project}").json
    schema.check("ListAuditLogsResponse", listed)


def test_a_key_without_the_scope(sdk: OpenAI, hub: Hub) -> None:
    project = sdk.admin.organization.projects.create(name=unique("Plain")).id
    made = sdk.admin.organization.projects.service_accounts.create(project_id=project, name="bot")
    assert made.api_key is not None
    value = made.api_key.value
    with (
        OpenAI(base_url=hub.base_url, api_key=value, admin_api_key=value) as plain,
        pytest.raises(openai.PermissionDeniedError),
    ):
        plain.admin.organization.projects.list()


def last_page(page: Any) -> Any:
    """The document asks for a string where there is no next page, and writes `results` as `result`;
    the service and its client do not."""
    assert page["next_page"] is None
    buckets = [{**bucket, "result": bucket["results"]} for bucket in page["data"]]
    return {**page, "data": buckets, "next_page": ""}


def test_usage_and_costs(client: Client, hub: Hub) -> None:
    body = json.dumps({"model": hub.embedding_model, "input": "counted"}).encode()
    made = client.send("POST", "/embeddings", body)
    Caller(hub, hub.key).receipt(made.headers["x-request-id"])
    since = int(time.time()) - 86_400
    for path in ("completions", "embeddings", "moderations", "vector_stores"):
        page = client.send("GET", f"{ROOT}/usage/{path}?start_time={since}&group_by=project_id")
        schema.check("UsageResponse", last_page(page.json))
    page = client.send("GET", f"{ROOT}/costs?start_time={since}&group_by=line_item")
    schema.check("UsageResponse", last_page(page.json))
    items = [one["line_item"] for bucket in page.json["data"] for one in bucket["results"]]
    assert hub.embedding_model in items
