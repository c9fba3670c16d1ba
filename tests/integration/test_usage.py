"""From requests to the reports, through the whole hub with real weights."""

from __future__ import annotations

import csv
import io
import time
from itertools import pairwise
from typing import Any

import openai
import pytest

from tests.caller import Caller, ask, until
from tests.hub import Hub


def test_reports(hub: Hub, caller: Caller, admin: Caller) -> None:
    admin.receipt(ask(admin, hub).headers["x-request-id"])
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
    assert {one["key"] for one in by} == {caller.id}
    assert all(one["start"] % 3600 == 0 for one in by)
    seen = admin.usage(f"?project={caller.project}&group_by=class,project,adapter")
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
    assert caller.get(f"/api/v1/usage?key={caller.id}").status == 200
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
    mine: dict[str, Any] = {"project_ids": [caller.project]}
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
