"""Which model, which class."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.auth import Principal
from gateway.exchange import Exchange
from gateway.routes.admission import Admission, fingerprint, permits, service_class
from shared.catalog import Catalog, Entry
from shared.errors import InvalidRequest, InvalidValue, ModelNotAllowed, ModelNotFound
from shared.settings import Model
from shared.wire.account import Account
from shared.wire.openai import chat
from shared.wire.task import Adapter

CHAT = Model(engine="openai", url="http://localhost:1/v1", api_key="secret", aliases=("gpt",))
EMBEDDING = Model(engine="llamacpp", kind="embedding", file="e.gguf")
ADMISSION = Admission(Catalog({"org/chat:latest": CHAT, "embed": EMBEDDING}), dict)


def exchange(*headers: tuple[bytes, bytes], account: Account | None = None) -> Exchange:
    async def never(*_: Any) -> Any:
        raise AssertionError

    scope: Any = {
        "type": "http",
        "method": "POST",
        "raw_path": b"/",
        "query_string": b"",
        "headers": list(headers),
    }
    found = Exchange(scope, never, never)
    found.principal = Principal(account or Account("key", "proj", "org", "mine", ("inference",)))
    return found


def test_an_alias_becomes_the_models_own_name() -> None:
    asked = exchange()
    assert ADMISSION.admit(asked, "gpt", "chat").name == "org/chat:latest"
    assert asked.model == "org/chat:latest"


@pytest.mark.parametrize(
    ("name", "kind", "path"),
    [("embed", "chat", "/v1/embeddings"), ("gpt", "embedding", "/v1/chat/completions")],
)
def test_a_model_of_another_kind_is_refused_with_the_way_to_it(
    name: str, kind: Any, path: str
) -> None:
    with pytest.raises(InvalidRequest, match=path) as refused:
        ADMISSION.admit(exchange(), name, kind)
    assert (refused.value.status, refused.value.param) == (400, "model")


def test_an_unknown_model() -> None:
    with pytest.raises(ModelNotFound):
        ADMISSION.admit(exchange(), "none", "chat")


@pytest.mark.parametrize(
    ("headers", "tier", "expected"),
    [
        ((), None, "interactive"),
        ((), "auto", "interactive"),
        ((), "flex", "batch"),
        ((), "priority", "interactive"),
        (((b"x-aihub-class", b"Standard"),), "flex", "standard"),
        (((b"x-aihub-class", b"batch"),), None, "batch"),
    ],
)
def test_the_class_of_service(headers: Any, tier: str | None, expected: str) -> None:
    assert service_class(exchange(*headers), tier) == expected


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(InvalidValue, match="interactive, standard, batch"):
        service_class(exchange((b"x-aihub-class", b"first")), None)


def test_the_fingerprint_changes_with_the_settings_but_not_with_secrets() -> None:
    def of(**fields: Any) -> str:
        return fingerprint(Entry("m", Model(engine="openai", url="http://h/v1", **fields), "m"))

    assert of() == of() != of(context=8192)
    assert of(api_key="one") == of(api_key="two")


def test_the_fingerprint_changes_with_the_version_of_an_adapter() -> None:
    catalog = Catalog({"base": msgspec.structs.replace(CHAT, engine="llamacpp", file="m")})
    admission = Admission(catalog, dict)
    one, two = (catalog.adapt("base", "law", "/law", version) for version in (1, 2))
    given = [admission.fingerprint(entry) for entry in (catalog.find("base"), one, two)]
    assert len(set(given)) == 3
    assert given[1] == admission.fingerprint(one)


LIMITED = Account("key", "proj", "org", "mine", ("inference",), models=("gpt", "gone"))


def test_a_key_uses_the_models_it_is_allowed_by_name_or_alias() -> None:
    assert ADMISSION.admit(exchange(account=LIMITED), "org/chat:latest", "chat").name
    with pytest.raises(ModelNotAllowed) as refused:
        ADMISSION.admit(exchange(account=LIMITED), "embed", "embedding")
    assert (refused.value.status, refused.value.code) == (403, "model_not_allowed")
    assert refused.value.param == "model"


def test_an_adapter_is_not_allowed_with_its_base() -> None:
    catalog = Catalog({"base": CHAT})
    adapter = Entry("base-law", CHAT, "base", Adapter("base-law@1", "law"))
    assert permits(catalog, msgspec.structs.replace(LIMITED, models=("base",)), adapter) is False
    assert permits(catalog, msgspec.structs.replace(LIMITED, models=("base-law",)), adapter)


def test_neither_auto_nor_a_fallback_leads_to_a_model_that_is_not_allowed() -> None:
    chats = {
        name: Model(engine="openai", url="http://localhost:1/v1", fallbacks=others, quality=quality)
        for name, quality, others in (
            ("good", 9, ()),
            ("poor", 1, ("good", "fair")),
            ("fair", 5, ()),
        )
    }
    states = {"good": "ready", "fair": "ready", "poor": "failed"}
    admission = Admission(Catalog(chats), lambda: states)
    request = chat.decode(b'{"model": "auto", "messages": [{"role": "user", "content": "hi"}]}')
    poor = msgspec.structs.replace(request, model="poor")
    everyone = exchange()
    assert admission.admit_chat(everyone, request, 10).name == "good"
    assert admission.admit_chat(everyone, poor, 10).name == "good"
    limited = exchange(account=msgspec.structs.replace(LIMITED, models=("poor", "fair")))
    assert admission.admit_chat(limited, request, 10).name == "fair"
    assert admission.admit_chat(limited, poor, 10).name == "fair"


async def test_only_names_that_nobody_knows_are_asked_for() -> None:
    asked: list[str] = []

    async def learn(name: str) -> None:
        asked.append(name)

    admission = Admission(Catalog({"m": CHAT}), dict, learn)
    for name in ("m", "gpt", "auto", "ft:m:p::1"):
        await admission.learn(name)
    assert asked == ["ft:m:p::1"]


def test_a_tuned_model_is_its_projects_alone() -> None:
    catalog = Catalog({"m": Model(engine="llamacpp", file="m.gguf")})
    catalog.adapt("m", "ft:m:p::1", "1", owner="proj")
    catalog.adapt("m", "ft:m:q::1", "2", owner="another")
    catalog.point("mine", "ft:m:p::1")
    admission = Admission(catalog, dict)
    assert admission.admit(exchange(), "mine", "chat").adapter is not None
    with pytest.raises(ModelNotFound):
        admission.admit(exchange(), "ft:m:q::1", "chat")
    account = Account("key", "proj", "org", "mine", ("inference",), models=("ft:m:q::1",))
    assert not permits(catalog, account, catalog.find("ft:m:q::1"))
