"""Which model `auto` takes, and who stands in."""

from __future__ import annotations

import msgspec
import pytest

from gateway import routing, traits
from gateway.routing import choose, stand_in
from gateway.traits import Traits
from shared.catalog import Catalog
from shared.errors import ContextLengthExceeded, InvalidValue, ModelNotFound, UnsupportedValue
from shared.settings import Model, SettingsError
from shared.wire.openai import chat


def model(**given: object) -> Model:
    return Model(engine="openai", url="unix:/x", **given)  # type: ignore[arg-type]


MODELS = {
    "small": model(context=4096, quality=3),
    "big": model(context=32768, quality=8, capabilities=("tools",)),
    "coder": model(context=16384, quality=6, capabilities=("code", "tools")),
    "seer": model(context=8192, quality=5, capabilities=("images",)),
    "polyglot": model(context=8192, quality=4, languages=("zh", "ja")),
    "secret": model(context=999_999, quality=10, auto=False),
    "vectors": model(kind="embedding"),
}
CATALOG = Catalog(MODELS)
READY = dict.fromkeys(MODELS, "ready")
LONG = Traits(tokens=10_000)


@pytest.mark.parametrize(
    ("wanted", "asked", "states", "name"),
    [
        (Traits(), "balanced", READY, "big"),
        (Traits(), "best", READY, "big"),
        (Traits(), "fast", READY, "small"),
        (Traits(), "balanced", {"small": "ready"}, "small"),
        (Traits(), "best", {"small": "ready"}, "big"),
        (Traits(), "fast", {}, "big"),
        (Traits(), "best", {**READY, "big": "failed"}, "coder"),
        (Traits(images=True), "best", READY, "seer"),
        (Traits(code=True), "best", READY, "coder"),
        (Traits(tools=True), "best", READY, "big"),
        (Traits(tools=True), "fast", READY, "coder"),
        (Traits(language="zh"), "best", READY, "polyglot"),
        (Traits(language="de"), "best", READY, "big"),
        (LONG, "fast", READY, "coder"),
    ],
)
def test_auto(wanted: Traits, asked: routing.Quality, states: dict[str, str], name: str) -> None:
    route = choose(wanted, asked, CATALOG, states)
    assert route.entry.name == name
    assert route.why.startswith(f"{name}; ")


def test_a_caller_may_restrict_the_choice_even_to_models_not_open_to_it() -> None:
    assert choose(Traits(), "best", CATALOG, READY, ["small", "secret"]).entry.name == "secret"
    with pytest.raises(ModelNotFound):
        choose(Traits(), "best", CATALOG, READY, ["nobody"])


def test_nothing_left_is_an_error_that_says_what_was_missing() -> None:
    with pytest.raises(UnsupportedValue, match="audio"):
        choose(Traits(audio=True), "best", CATALOG, READY)
    with pytest.raises(ContextLengthExceeded, match=r"32768.*50000"):
        choose(Traits(tokens=50_000), "best", CATALOG, READY)
    with pytest.raises(ModelNotFound):
        choose(Traits(), "best", CATALOG, dict.fromkeys(MODELS, "failed"))


def test_quality_is_a_known_word() -> None:
    assert routing.quality(None) == "balanced"
    with pytest.raises(InvalidValue, match="fast, balanced, best"):
        routing.quality("cheap")


def test_a_fallback_stands_in_only_while_it_must() -> None:
    catalog = Catalog(
        {"a": model(fallbacks=("b", "c")), "b": model(), "c": model(aliases=("see",))}
    )
    entry = catalog.find("a")
    assert stand_in(entry, catalog, {"a": "ready", "b": "ready"}) is None
    assert stand_in(entry, catalog, {"a": "loading", "b": "ready"}) is None
    route = stand_in(entry, catalog, {"a": "failed", "b": "failed", "c": "ready"})
    assert route is not None
    assert (route.entry.name, route.why) == ("c", "c; a failed")
    route = stand_in(entry, catalog, {"b": "ready"})
    assert route is not None
    assert route.why == "b; a has no worker"
    assert stand_in(entry, catalog, {"a": "failed"}) is None


def test_an_adapter_stands_as_its_base_does() -> None:
    catalog = Catalog({"a": model(fallbacks=("law",)), "b": model(adapters={"law": "x"})})
    base, law = catalog.find("a"), catalog.find("law")
    assert stand_in(law, catalog, {"b": "ready"}) is None
    route = stand_in(base, catalog, {"a": "failed", "b": "ready"})
    assert route is not None
    assert route.entry == law
    adapted = catalog.adapt("a", "tax", "y")
    route = stand_in(adapted, catalog, {"a": "failed", "b": "ready"})
    assert route is not None
    assert route.why == "law; tax failed"


def test_auto_takes_an_adapter_only_by_its_name() -> None:
    catalog = Catalog({"a": model(adapters={"law": "x"}, quality=9), "b": model()})
    states = {"a": "ready", "b": "ready"}
    assert choose(Traits(), "best", catalog, states).entry.name == "a"
    assert choose(Traits(), "best", catalog, states, ["law", "b"]).entry.name == "law"


def test_a_fallback_must_exist_and_be_of_the_same_kind() -> None:
    with pytest.raises(SettingsError, match="no model 'z'"):
        Catalog({"a": model(fallbacks=("z",))})
    with pytest.raises(SettingsError, match="another kind"):
        Catalog({"a": model(fallbacks=("b",)), "b": model(kind="embedding")})


PYTHON = "Why does this fail?\n```python\ndef f(x):\n    return x\n```"


@pytest.mark.parametrize(
    ("text", "code", "language"),
    [
        ("What is the weather like in Paris, and how are you?", False, "en"),
        ("Was ist der Unterschied zwischen der Sonne und dem Mond?", False, "de"),
        ("Quelle est la couleur de la mer, et pourquoi est-elle bleue ?", False, "fr"),
        ("今天天气怎么样？", False, "zh"),
        ("今日の天気はどうですか。", False, "ja"),
        ("Какая сегодня погода?", False, "ru"),
        (PYTHON, True, None),
        ("int main() {\n  return 0;\n}", True, None),
        ("ok", False, None),
    ],
)
def test_traits_of_a_text(text: str, code: bool, language: str | None) -> None:
    body = msgspec.json.encode({"model": "auto", "messages": [{"role": "user", "content": text}]})
    found = traits.read(chat.decode(body), len(body))
    assert (found.code, found.language) == (code, language)


def test_traits_of_a_whole_request() -> None:
    body = msgspec.json.encode(
        {
            "model": "auto",
            "max_tokens": 1000,
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is in the picture?"},
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                    ],
                }
            ],
            "tools": [{"type": "function", "function": {"name": "look"}}],
        }
    )
    found = traits.read(chat.decode(body), 1_000_000)
    assert (found.images, found.audio, found.tools) == (True, False, True)
    assert found.tokens == 1000 + traits.ROOM
