"""`aihub usage` against a running hub, and the end of a month."""

from __future__ import annotations

import csv
import io
import json
from uuid import uuid4

import psycopg
from openai import OpenAI

from tests.caller import Caller
from tests.command import aihub, said
from tests.contract.client import Client
from tests.hub import Hub


def asked(hub: Hub) -> str:
    """The id of an answer that the ledger has."""
    with OpenAI(base_url=hub.base_url, api_key=hub.key) as client:
        done = client.completions.create(
            model=hub.chat_model, prompt=f"One {uuid4().hex}", max_tokens=3
        )
    Caller(hub, hub.key).receipt(done.id)
    return done.id


def test_a_report_and_a_receipt(hub: Hub) -> None:
    id_ = asked(hub)
    head, *rows = said(hub, "usage", "--by", "project,model,day", "--from", "1h").splitlines()
    assert head.split()[:4] == ["day", "project", "model", "requests"]
    assert ["default", hub.chat_model] in [row.split()[1:3] for row in rows]
    assert rows[-1].startswith("all")
    (_, total) = said(hub, "usage").splitlines()
    assert int(total.split()[0]) >= 1
    lines = said(hub, "usage", "--by", "endpoint", "--csv", "--of-model", hub.chat_model)
    found = {row["endpoint"]: row for row in csv.DictReader(io.StringIO(lines))}
    assert int(found["completions"]["tokens_out"]) >= 3
    told = said(hub, "usage", "receipt", id_)
    assert f"id             req_{id_[-32:]}" in told
    assert "endpoint       completions" in told


def test_what_goes_wrong_is_one_line(hub: Hub) -> None:
    for arguments, words in (
        (("--by", "colour"), "Allowed are project"),
        (("--from", "soon"), "expected epoch seconds or a date"),
        (("receipt",), "say which request"),
        (("receipt", "req_1"), "has the id 'req_1'"),
        (("drop",), "say which month"),
        (("drop", "1999-01"), "No month has the id '1999-01'"),
        (("--key", "sk-wrong-key"), "Incorrect API key"),
    ):
        done = aihub(hub, "usage", *arguments)
        assert done.returncode == 1
        assert done.stderr.startswith("aihub usage: ")
        assert words in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_month_is_dropped_and_that_is_in_the_log(hub: Hub) -> None:
    url = f"postgresql://aihub@/aihub?host={hub.home / 'run'}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT usage_month_make('2020-02-01')")
    assert "2020-02" in said(hub, "usage", "months")
    assert "are gone" in said(hub, "usage", "drop", "2020-02")
    assert "2020-02" not in said(hub, "usage", "months")
    client = Client(hub.base_url.replace("/v1", "/api/v1"), hub.key)
    reply = client.send("GET", "/admin/audit?event_types=usage_month.deleted&limit=1")
    (row,) = reply.json["data"]
    assert (row["target"], row["before"]["id"]) == ("2020-02", "2020-02")
    assert json.dumps(row["after"]) == "null"
