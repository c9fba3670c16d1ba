"""Adapters are models of their own, in versions that come and go."""

from __future__ import annotations

import pytest

from shared import catalog as catalog_module
from shared.catalog import Catalog
from shared.errors import ModelNotFound
from shared.settings import Model, SettingsError
from shared.wire.task import Adapter


def model(**changes: object) -> Model:
    return Model(**{"engine": "llamacpp", "file": "m.gguf", **changes})  # type: ignore[arg-type]


BASE = model(aliases=("b",), adapters={"law": "adapters/law", "tax": "adapters/tax.gguf"})


def test_each_adapter_of_the_settings_is_a_model_on_its_base() -> None:
    catalog = Catalog({"base": BASE})
    law = catalog.find("law")
    assert (law.name, law.base, law.model) == ("law", "base", BASE)
    assert law.adapter == Adapter("law@1", "adapters/law")
    assert [entry.name for entry in catalog] == ["base"]
    assert [entry.name for entry in catalog.named()] == ["base", "law", "tax"]
    assert [entry.name for entry in catalog.lane("cpu")] == ["base"]
    assert "tax" in catalog


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ({"a": model(adapters={"a": "x"})}, r"models\.a\.adapters: 'a' is taken"),
        ({"a": model(aliases=("x",), adapters={"x": "x"})}, r"models\.a\.adapters: 'x' is taken"),
        (
            {"a": model(adapters={"x": "x"}), "c": model(aliases=("x",))},
            r"models\.c\.aliases: 'x' is taken",
        ),
        (
            {"a": model(adapters={"x": "x"}), "c": model(adapters={"x": "x"})},
            r"models\.c\.adapters: 'x' is taken",
        ),
        ({"a": model(adapters={" ": "x"})}, r"models\.a\.adapters: an adapter's name is empty"),
        ({"a": model(adapters={"x": " "})}, r"models\.a\.adapters: 'x' has no path"),
    ],
)
def test_a_name_belongs_to_one_model(models: dict[str, Model], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Catalog(models)


def test_a_new_version_leaves_those_alone_who_asked_before() -> None:
    catalog = Catalog({"base": BASE})
    first = catalog.adapt("base", "ft:base:me", "/made/1")
    second = catalog.adapt("base", "ft:base:me", "/made/2", 2)
    assert first.adapter == Adapter("ft:base:me@1", "/made/1")
    assert catalog.find("ft:base:me") == second
    assert second.adapter == Adapter("ft:base:me@2", "/made/2")
    assert [entry.name for entry in catalog.named()][-1] == "ft:base:me"
    catalog.forget("ft:base:me")
    catalog.forget("ft:base:me")
    with pytest.raises(ModelNotFound):
        catalog.find("ft:base:me")


@pytest.mark.parametrize("name", ["base", "b", "other", " "])
def test_an_adapter_takes_no_name_from_another(name: str) -> None:
    catalog = Catalog({"base": BASE, "other": model()})
    with pytest.raises(ValueError, match="taken"):
        catalog.adapt("base", name, "/x")
    with pytest.raises(ValueError, match="taken"):
        catalog.adapt("other", "law", "/x")


def test_what_no_adapter_can_be_made_for() -> None:
    catalog = Catalog({"base": BASE, "embed": model(kind="embedding")})
    for base in ("embed", "none", "law"):
        with pytest.raises(ValueError, match="no model that an adapter"):
            catalog.adapt(base, "new", "/x")


def test_the_settings_own_adapters_stay() -> None:
    with pytest.raises(ValueError, match="in the settings"):
        Catalog({"base": BASE}).forget("law")


def test_adapters_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "MOST_ADAPTERS", 2)
    catalog = Catalog({"base": BASE})
    with pytest.raises(ValueError, match="2 adapters already"):
        catalog.adapt("base", "third", "/x")
    catalog.adapt("base", "law", "/x", 2)


def tuned() -> Catalog:
    catalog = Catalog({"m": Model(engine="llamacpp", file="m.gguf")})
    catalog.adapt("m", "one", "1", owner="p")
    catalog.adapt("m", "two", "2", owner="p")
    return catalog


def test_an_alias_is_the_version_it_points_at() -> None:
    catalog = tuned()
    entry = catalog.point("alias", "one")
    assert (entry.adapter, entry.owner) == (catalog.find("one").adapter, "p")
    assert catalog.point("alias", "two").adapter == catalog.find("two").adapter
    catalog.forget("alias")
    assert "alias" not in catalog


def test_a_canary_answers_its_share() -> None:
    catalog = tuned()
    entry = catalog.point("alias", "one", "two", 0.25)
    drawn = [entry.drawn(number / 100).adapter for number in range(100)]
    assert drawn.count(catalog.find("two").adapter) == 25
    assert drawn.count(catalog.find("one").adapter) == 75
    assert catalog.find("one").drawn(0.0) is catalog.find("one")


def test_an_alias_of_what_is_not_there_is_refused() -> None:
    catalog = tuned()
    catalog.adapt("m", "theirs", "3", owner="q")
    for target, canary in (("m", None), ("none", None), ("one", "none"), ("one", "theirs")):
        with pytest.raises(ValueError):
            catalog.point("alias", target, canary, 0.5)
    with pytest.raises(ValueError):
        catalog.point("m", "one")
