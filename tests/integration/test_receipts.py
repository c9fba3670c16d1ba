"""From a request to its receipt, through the whole hub with real weights."""

from __future__ import annotations

from uuid import uuid4

from tests.caller import Caller, ask
from tests.hub import Hub


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
    assert (receipt["key"], receipt["project"]) == (caller.id, caller.project)
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
