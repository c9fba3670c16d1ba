"""Which model, which class."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.exchange import Exchange
from gateway.routes.admission import Admission, fingerprint, service_class
from shared.catalog import Catalog, Entry
from shared.errors import InvalidRequest, InvalidValue, ModelNotFound
from shared.settings import Model

CHAT = Model(engine="openai", url="http://localhost:1/v1", api_key="secret", aliases=("gpt",))
EMBEDDING = Model(engine="llamacpp", kind="embedding", file="e.gguf")
ADMISSION = Admission(Catalog({"org/chat:latest": CHAT, "embed": EMBEDDING}), dict)


def exchange(*headers: tuple[bytes, bytes]) -> Exchange:
    async def never(*_: Any) -> Any:
        raise AssertionError

    scope: Any = {"type": "http", "method": "POST", "raw_path": b"/", "headers": list(headers)}
    return Exchange(scope, never, never)


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
