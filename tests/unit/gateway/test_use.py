"""Events of requests that no worker had."""

from __future__ import annotations

from gateway.use import Use, unclaimed, unqueued
from shared import ids
from shared.catalog import Catalog
from shared.settings import Model
from shared.wire.account import Account
from shared.wire.task import Adapter, Origin, Task

ID = ids.new("req_")
ACCOUNT = Account("key_1", "proj_1", "org_1", "name", ("inference",))


def test_a_refusal() -> None:
    use = Use()
    use.endpoint, use.code = "chat/completions", "model_not_found"
    event = unqueued(ID, ACCOUNT, use, 404, 0.0042)
    assert (event.request_id, event.ts_ms) == (ID, ids.wall_ms(ID))
    assert (event.project, event.key, event.model) == ("proj_1", "key_1", "")
    assert (event.status, event.code, event.total_ms) == (404, "model_not_found", 4)
    assert (event.tokens_in, event.tokens_out, event.micros, event.cache) == (0, 0, 0, "none")


def test_an_answer_of_the_cache_from_an_adapter() -> None:
    catalog = Catalog({"base": Model(engine="llamacpp", file="f", adapters={"law": "law"})})
    use = Use()
    use.endpoint, use.cache, use.streamed, use.service = "completions", "exact", True, "batch"
    use.entry = catalog.find("law")
    event = unqueued(ID, ACCOUNT, use, 200, 1.0)
    assert (event.model, event.adapter, event.cache) == ("base", "law@1", "exact")
    assert (event.streamed, event.service, event.status, event.code) == (True, "batch", 200, None)


def test_a_job_that_left_the_line() -> None:
    task = Task(
        *("job-1", "embedding", "m", "gw-1", 1, False, b"{}", "key_1", "standard", 0),
        Adapter("law@3", "law"),
    )
    origin = Origin(ID, "proj_1", "embeddings")
    event = unclaimed(task, origin, 499, "client_closed_request", ids.wall_ms(ID) + 30)
    assert (event.key, event.project, event.adapter) == ("key_1", "proj_1", "law@3")
    assert (event.total_ms, event.status, event.service) == (30, 499, "standard")
    assert (event.queue_ms, event.tokens_in) == (None, 0)
    assert unclaimed(task, origin, 499, None, 0).total_ms == 0


def test_the_ids_of_a_request_tell_of_each_other() -> None:
    answer = ids.again("chatcmpl-", ID)
    assert ids.again("req_", answer) == ID
    assert ids.wall_ms(answer) == ids.wall_ms(ID)
