"""From a request to its receipt and to the reports, through the whole hub with real weights."""

from __future__ import annotations

import csv
import io
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple
from uuid import uuid4

import openai
import pytest
from openai import OpenAI

from tests.hub import Hub

WITHIN = 30.0


class Reply(NamedTuple):
    status: int
    text: str
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Caller:
    """One key of the hub."""

    def __init__(self, hub: Hub, key: str) -> None:
        self.key = key
        self._hub = hub

    @cached_property
    def sdk(self) -> OpenAI:
        key = self.key
        return OpenAI(base_url=self._hub.base_url, api_key=key, admin_api_key=key, max_retries=0)

    def send(self, method: str, path: str, body: object = None) -> Reply:
        request = urllib.request.Request(
            self._hub.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.key}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                headers = {name.lower(): value for name, value in reply.headers.items()}
                return Reply(reply.status, reply.read().decode(), headers)
        except urllib.error.HTTPError as error:
            headers = {name.lower(): value for name, value in error.headers.items()}
            return Reply(error.code, error.read().decode(), headers)

    def get(self, path: str) -> Reply:
        return self.send("GET", path)

    def receipt(self, id_: str) -> dict[str, Any]:
        """Once it is in the ledger."""
        return until(
            lambda: self.get(f"/api/v1/requests/{id_}"),
            lambda reply: reply.status == 200 and not reply.json["pending"],
        ).json

    def usage(self, query: str = "") -> list[dict[str, Any]]:
        return list(self.get(f"/api/v1/usage{query}").json["data"])


def until(ask: Callable[[], Reply], met: Callable[[Reply], bool]) -> Reply:
    deadline = time.monotonic() + WITHIN
    while True:
        reply = ask()
        if met(reply):
            return reply
        assert time.monotonic() < deadline, reply
        time.sleep(0.05)


@pytest.fixture
def admin(hub: Hub) -> Iterator[Caller]:
    admin = Caller(hub, hub.key)
    yield admin
    admin.sdk.close()


@pytest.fixture
def caller(hub: Hub, admin: Caller) -> Iterator[Caller]:
    """A key of a project of its own, which may ask models and nothing else."""
    name = f"usage {uuid4().hex}"
    project = admin.send("POST", "/api/v1/admin/projects", {"name": name}).json["id"]
    made = admin.send("POST", "/api/v1/admin/keys", {"name": "usage", "project": project}).json
    caller = Caller(hub, made["value"])
    caller.project, caller.id = project, made["id"]  # type: ignore[attr-defined]
    yield caller
    caller.sdk.close()


def ask(caller: Caller, hub: Hub, **more: Any) -> Any:
    return caller.sdk.chat.completions.with_raw_response.create(
        model=hub.chat_model,
        messages=[{"role": "user", "content": f"Name a fruit. {uuid4().hex}"}],
        max_tokens=8,
        **more,
    )


def test_a_receipt_is_found_by_both_ids(hub: Hub, caller: Caller) -> None:
    raw = ask(caller, hub, temperature=0.3)
    answer = raw.parse()
    receipt = caller.receipt(answer.id)
    assert answer.id.startswith("chatcmpl-")
    assert receipt["id"] == raw.headers["x-request-id"]
    assert caller.receipt(raw.headers["x-request-id"]) == receipt
    usage = answer.usage
    assert receipt["tokens_in"] == usage.prompt_tokens
    assert receipt["tokens_out"] == usage.completion_tokens
    assert receipt["tokens_cached"] == usage.prompt_tokens_details.cached_tokens
    assert (receipt["status"], receipt["code"], receipt["streamed"]) == (200, None, False)
    assert (receipt["key"], receipt["project"]) == (caller.id, caller.project)  # type: ignore[attr-defined]
    assert receipt["model"] == hub.chat_model
    assert (receipt["endpoint"], receipt["class"]) == ("chat/completions", "interactive")
    assert 0 <= receipt["queue_ms"] <= receipt["first_ms"] <= receipt["total_ms"]


def test_a_stream_and_who_leaves_it(hub: Hub, caller: Caller) -> None:
    stream = caller.sdk.chat.completions.create(
        model=hub.chat_model,
        messages=[{"role": "user", "content": "Tell a very long story about the sea."}],
        max_tokens=2000,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    chunks = []
    for chunk in stream:
        chunks.append(chunk)
        if len(chunks) == 12:
            break
    stream.close()
    receipt = caller.receipt(chunks[0].id)
    assert (receipt["status"], receipt["code"]) == (499, "client_closed_request")
    assert receipt["streamed"]
    assert 10 <= receipt["tokens_out"] < 2000
    assert receipt["tokens_in"] > 5


def test_embeddings_and_completions(hub: Hub, caller: Caller) -> None:
    made = caller.sdk.embeddings.with_raw_response.create(
        model=hub.embedding_model, input=["one", "two"]
    )
    receipt = caller.receipt(made.headers["x-request-id"])
    assert receipt["tokens_in"] == made.parse().usage.prompt_tokens
    assert (receipt["endpoint"], receipt["tokens_out"]) == ("embeddings", 0)
    done = caller.sdk.completions.create(model=hub.chat_model, prompt="One, two,", max_tokens=5)
    receipt = caller.receipt(done.id)
    assert done.usage is not None
    assert (receipt["endpoint"], receipt["tokens_out"]) == (
        "completions",
        done.usage.completion_tokens,
    )


def test_refusals_are_in_the_ledger_too(hub: Hub, caller: Caller) -> None:
    for model in ("gpt-9", hub.chat_model):
        body = {"model": model, "messages": "none"}
        reply = caller.send("POST", "/v1/chat/completions", body)
        receipt = caller.receipt(reply.headers["x-request-id"])
        assert receipt["status"] == reply.status
        assert receipt["code"] == reply.json["error"]["code"]
        assert (receipt["tokens_in"], receipt["tokens_out"], receipt["micros"]) == (0, 0, 0)


def test_a_receipt_is_for_its_key_and_administrators(
    hub: Hub, caller: Caller, admin: Caller
) -> None:
    id_ = ask(caller, hub).headers["x-request-id"]
    receipt = caller.receipt(id_)
    assert admin.receipt(id_) == receipt
    made = admin.send("POST", "/api/v1/admin/keys", {"name": "other"}).json
    other = Caller(hub, made["value"])
    assert other.get(f"/api/v1/requests/{id_}").status == 404
    for wrong in ("req_1", f"req_{uuid4().hex}", "", "req_" + "g" * 32):
        assert admin.get(f"/api/v1/requests/{wrong}").status == 404
    assert Caller(hub, "sk-wrong").get(f"/api/v1/requests/{id_}").status == 401


def test_reports(hub: Hub, caller: Caller, admin: Caller) -> None:
    asked = [ask(caller, hub, temperature=0.5) for _ in range(3)]
    caller.send("POST", "/v1/chat/completions", {"model": "gpt-9", "messages": []})
    usages = [raw.parse().usage for raw in asked]
    for raw in asked:
        caller.receipt(raw.headers["x-request-id"])
    until(
        lambda: caller.get("/api/v1/usage"),
        lambda reply: bool(reply.json["data"]) and reply.json["data"][0]["requests"] == 4,
    )
    (row,) = caller.usage()
    assert row["tokens_in"] == sum(usage.prompt_tokens for usage in usages)
    assert row["tokens_out"] == sum(usage.completion_tokens for usage in usages)
    assert row["failures"] == 1
    by = caller.usage("?group_by=model,endpoint&group_by=hour,key")
    assert {one["model"] for one in by} == {"", hub.chat_model}
    assert {one["key"] for one in by} == {caller.id}  # type: ignore[attr-defined]
    assert all(one["start"] % 3600 == 0 for one in by)
    seen = admin.usage(f"?project={caller.project}&group_by=class,project,adapter")  # type: ignore[attr-defined]
    assert [(one["requests"], one["class"], one["adapter"]) for one in seen] == [
        (4, "interactive", "")
    ]
    assert sum(one["requests"] for one in admin.usage("?group_by=project")) > 4
    now = int(time.time())
    for since, until_, count in ((now - 3600, now + 1, 4), (now - 7200, now - 3600, 0)):
        found = caller.usage(f"?from={since}&to={until_}&group_by=day")
        assert sum(one["requests"] for one in found) == count


def test_pages_and_tables(hub: Hub, caller: Caller) -> None:
    ids = [ask(caller, hub).headers["x-request-id"]]
    raw = caller.sdk.embeddings.with_raw_response.create(model=hub.embedding_model, input="x")
    for id_ in (*ids, raw.headers["x-request-id"]):
        caller.receipt(id_)
    first = caller.get("/api/v1/usage?group_by=endpoint&limit=1").json
    assert (first["has_more"], first["next_page"]) == (True, "1")
    last = caller.get("/api/v1/usage?group_by=endpoint&limit=1&page=1").json
    assert (last["has_more"], last["next_page"]) == (False, None)
    assert [page["data"][0]["endpoint"] for page in (first, last)] == [
        "chat/completions",
        "embeddings",
    ]
    reply = caller.get("/api/v1/usage?group_by=day,endpoint&format=csv&limit=1")
    assert reply.headers["content-type"].startswith("text/csv")
    assert reply.headers["x-aihub-next-page"] == "1"
    (row,) = csv.DictReader(io.StringIO(reply.text))
    assert row["start"].endswith("T00:00:00Z")
    assert (row["endpoint"], row["requests"]) == ("chat/completions", "1")


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("group_by=colour", "group_by"),
        ("group_by=hour,day", "group_by"),
        ("from=yesterday", "from"),
        ("from=2026-13-01", "from"),
        ("from=99999999999", "from"),
        ("from=2200-01-01", "from"),
        ("from=2026-02-02&to=2026-02-02", "from"),
        ("to=1&to=2", "to"),
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("page=-1", "page"),
        ("format=xml", "format"),
        ("colour=red", "colour"),
        ("&".join(["model=x"] * 101), "model"),
    ],
)
def test_bad_questions(hub: Hub, admin: Caller, query: str, param: str) -> None:
    reply = admin.get(f"/api/v1/usage?{query}")
    assert (reply.status, reply.json["error"]["param"]) == (400, param)


def test_a_key_sees_no_other_keys_usage(caller: Caller, admin: Caller) -> None:
    assert caller.get(f"/api/v1/usage?key={caller.id}").status == 200  # type: ignore[attr-defined]
    reply = caller.get("/api/v1/usage?key=key_of_another")
    assert (reply.status, reply.json["error"]["param"]) == (403, "key")
    assert caller.get("/v1/organization/usage/completions?start_time=1").status == 403


def test_openais_own_client(hub: Hub, caller: Caller, admin: Caller) -> None:
    answer = ask(caller, hub).parse()
    caller.receipt(answer.id)
    made = caller.sdk.embeddings.with_raw_response.create(model=hub.embedding_model, input="x")
    caller.receipt(made.headers["x-request-id"])
    now = int(time.time())
    usage = admin.sdk.admin.organization.usage
    mine: dict[str, Any] = {"project_ids": [caller.project]}  # type: ignore[attr-defined]
    for width, seconds in (("1m", 60), ("1h", 3600), ("1d", 86_400)):
        page = usage.completions(
            start_time=now - seconds,
            bucket_width=width,  # type: ignore[arg-type]
            group_by=["model", "api_key_id", "batch"],
            **mine,
        )
        results = [one for bucket in page.data for one in bucket.results]
        assert sum(one.output_tokens for one in results) == answer.usage.completion_tokens  # type: ignore[union-attr]
        assert {one.model for one in results} == {hub.chat_model}  # type: ignore[union-attr]
        assert {one.batch for one in results} == {False}  # type: ignore[union-attr]
        assert page.data[0].start_time == now - seconds
        assert not page.has_more
    page = usage.embeddings(start_time=now - 86_400, **mine)
    assert sum(one.num_model_requests for bucket in page.data for one in bucket.results) == 1  # type: ignore[union-attr]
    empty = usage.moderations(start_time=now - 86_400)
    assert [bucket.results for bucket in empty.data] == [[]] * len(empty.data)
    costs = usage.costs(start_time=now - 86_400, group_by=["line_item"], **mine)
    items = {one.line_item for bucket in costs.data for one in bucket.results}  # type: ignore[union-attr]
    assert items == {hub.chat_model, hub.embedding_model}


def test_openais_pages(admin: Caller) -> None:
    now = int(time.time())
    usage = admin.sdk.admin.organization.usage
    seen, page = [], usage.completions(start_time=now - 10 * 86_400, end_time=now, limit=4)
    while True:
        seen += [(bucket.start_time, bucket.end_time) for bucket in page.data]
        if page.next_page is None:
            break
        page = usage.completions(
            start_time=now - 10 * 86_400, end_time=now, limit=4, page=page.next_page
        )
    assert (seen[0][0], seen[-1][1]) == (now - 10 * 86_400, now)
    assert all(one[1] == other[0] for one, other in pairwise(seen))
    with pytest.raises(openai.BadRequestError):
        usage.completions(start_time=now, limit=32)
    with pytest.raises(openai.BadRequestError):
        usage.costs(start_time=now, bucket_width="1h")  # type: ignore[arg-type]


def test_months(admin: Caller) -> None:
    months = admin.get("/api/v1/admin/usage/months").json["data"]
    this = time.strftime("%Y-%m", time.gmtime())
    assert months[0]["id"] == this
    assert len(months) >= 3
    for month, status in ((this, 400), (months[-1]["id"], 400), ("1999-01", 404), ("x", 404)):
        assert admin.send("DELETE", f"/api/v1/admin/usage/months/{month}").status == status


def test_what_waits_is_in_the_metrics(hub: Hub, caller: Caller, admin: Caller) -> None:
    caller.receipt(ask(caller, hub).headers["x-request-id"])
    text = admin.get("/metrics").text
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#")
    assert figures["aihub_usage_writer"] == "1"
    assert float(figures["aihub_usage_written_total"]) > 0
    for why in ("stream_full", "gateway_full", "unwritable"):
        assert figures[f'aihub_usage_lost_total{{why="{why}"}}'] == "0"
    for name in ("waiting_events", "oldest_seconds", "unsent_events"):
        assert f"aihub_usage_{name}" in figures
