"""What servers offer by themselves: names, entries, bounds."""

from __future__ import annotations

import msgspec
import pytest

from shared.catalog import Catalog
from shared.errors import ModelNotFound, ModelUnavailable
from shared.offers import MOST, matches, table_of
from shared.settings import Model, SettingsError, check, convert
from shared.wire.node import Offered

BOX = Model(engine="ollama", url="box:11434", context=8192, parallel=2, capabilities=("code",))


def chat(name: str, context: int = 32_768, **more: object) -> Offered:
    return Offered(name, "chat", context, **more)  # type: ignore[arg-type]


def names(catalog: Catalog) -> list[str]:
    return [entry.name for entry in catalog]


@pytest.mark.parametrize(
    ("name", "table", "whether"),
    [
        ("box/llama3:8b", "box/*", True),
        ("llama3:8b", "box/*", False),
        ("box/", "box/*", False),
        ("llama3@box", "*@box", True),
        ("anything", "*", True),
    ],
)
def test_names_that_a_table_stands_for(name: str, table: str, whether: bool) -> None:
    assert matches(name, table) is whether


def test_a_name_belongs_to_the_table_that_says_most_of_it() -> None:
    assert table_of("box/a", ["*", "box/*"]) == "box/*"
    assert table_of("a", ["*", "box/*"]) == "*"
    assert table_of("a", ["box/*"]) is None
    catalog = Catalog({"*": BOX, "box/*": BOX})
    catalog.learn("*", [chat("box/a:1"), chat("b:1")])
    assert names(catalog) == ["b:1"]


def test_an_entry_has_the_tables_settings_and_what_the_server_knows_better() -> None:
    catalog = Catalog({"box/*": BOX})
    assert names(catalog) == []
    catalog.learn("box/*", [chat("llama3:latest", 2048, capabilities=("tools",), digest="d1")])
    entry = catalog.find("box/llama3")
    assert entry is catalog.find("box/llama3:latest")
    assert (entry.name, entry.base, entry.server, entry.digest) == (
        "box/llama3:latest",
        "box/llama3:latest",
        "box/*",
        "d1",
    )
    assert entry.model == msgspec.structs.replace(
        BOX,
        upstream_model="llama3:latest",
        context=2048,
        capabilities=("tools", "code"),
        aliases=("box/llama3",),
        preload=False,
    )
    catalog.learn("box/*", [Offered("minilm:latest", "embedding")])
    assert catalog.find("box/minilm").model.kind == "embedding"
    assert catalog.find("box/minilm").model.context == 8192
    assert "box/llama3" not in catalog


def test_what_is_gone_leaves_and_what_stays_is_the_same_entry_or_a_new_one() -> None:
    catalog = Catalog({"box/*": BOX, "own": BOX})
    catalog.learn("box/*", [chat("a:1", digest="x"), chat("b:1")])
    assert [entry.name for entry in catalog.lane("cpu")] == ["own", "box/a:1", "box/b:1"]
    before = catalog.find("box/a:1")
    catalog.learn("box/*", [chat("a:1", digest="x"), chat("b:1")])
    assert catalog.find("box/a:1") is before
    catalog.learn("box/*", [chat("a:1", digest="y")])
    assert names(catalog) == ["own", "box/a:1"]
    assert catalog.find("box/a:1").digest == "y"


def test_names_that_cannot_be_or_are_taken_are_left_out() -> None:
    catalog = Catalog(
        {
            "*": BOX,
            "own": Model(
                engine="llamacpp", file="m.gguf", aliases=("alias",), adapters={"law": "x"}
            ),
        }
    )
    bad = ["", " ", "a b", "../x", "x\n", "*", "ä", "x" * 300, "own", "alias", "law"]
    catalog.learn("*", [chat(name) for name in (*bad, "hf.co/org/Model-GGUF:Q4_K_M")])
    assert names(catalog) == ["own", "hf.co/org/Model-GGUF:Q4_K_M"]
    catalog.learn("*", [chat("x:latest"), chat("x"), chat("own:latest")])
    assert names(catalog) == ["own", "x", "own:latest", "x:latest"]
    assert catalog.find("x").model.upstream_model == "x"
    assert catalog.find("own").model.engine == "llamacpp"


def test_so_many_are_offered_and_who_is_there_stays() -> None:
    catalog = Catalog({"*": BOX})
    catalog.learn("*", [chat(f"m{number:04}") for number in range(500, 500 + MOST)])
    catalog.learn("*", [chat(f"m{number:04}") for number in range(2 * MOST + 500)])
    assert names(catalog) == [f"m{number:04}" for number in range(500, 500 + MOST)]


def test_a_name_that_is_not_there_says_why() -> None:
    catalog = Catalog({"box/*": BOX})
    with pytest.raises(ModelUnavailable, match="'box/\\*' has is not known yet"):
        catalog.find("box/a:1")
    with pytest.raises(ModelNotFound, match=r"The model 'a' does not exist\. GET"):
        catalog.find("a")
    catalog.learn("box/*", ())
    with pytest.raises(ModelNotFound, match="server of 'box/\\*' has none of that name now"):
        catalog.find("box/a:1")
    assert catalog.may_find("box/a:1") and catalog.may_find("box/*")
    assert not catalog.may_find("a")


def test_a_lane_with_a_table_is_served() -> None:
    catalog = Catalog({"box/*": msgspec.structs.replace(BOX, lane="far")})
    assert catalog.served("far") == []
    assert catalog.lanes() == {"far"}
    with pytest.raises(
        SettingsError, match=r"no model is in lane 'cpu'\. Lanes of the models: far"
    ):
        catalog.served("cpu")


@pytest.mark.parametrize(
    ("name", "table", "said"),
    [
        ("*", {"engine": "openai", "url": "http://x/v1"}, r"models\.\*\.engine: '\*' stands for"),
        ("a*b*", {"engine": "ollama"}, "one '\\*' stands for the server's own name"),
        ("*", {"engine": "ollama", "kind": "embedding"}, r"models\.\*\.kind: each model"),
        ("*", {"engine": "ollama", "upstream_model": "x"}, r"models\.\*\.upstream_model: each"),
        ("*", {"engine": "ollama", "aliases": ["x"]}, r"models\.\*\.aliases: each model"),
        ("*", {"engine": "ollama", "pin": True}, r"models\.\*\.pin: each model"),
        ("*", {"engine": "ollama", "fallbacks": ["*"]}, r"models\.\*\.fallbacks: no model '\*'"),
    ],
)
def test_tables_that_cannot_be(name: str, table: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Catalog(check(convert({"models": {name: table}})).models)


def test_fallbacks_to_models_that_may_come() -> None:
    models = {"box/*": BOX, "a": Model(engine="openai", url="http://x/v1", fallbacks=("box/b:1",))}
    assert Catalog(models).find("a").model.fallbacks == ("box/b:1",)
