from __future__ import annotations

from pathlib import Path

from deploy import models, welcome
from deploy.key import Key
from shared.catalog import Catalog
from shared.settings import DEFAULT_MODELS, Model, Settings

OWN = {"mine": Model(engine="llamacpp", file="mine.gguf", aliases=("m",))}
UPSTREAM = {"far": Model(engine="openai", url="http://me:hunter2@h/v1")}


def where(home: Path, name: str) -> str:
    settings = Settings(home=str(home), models={**DEFAULT_MODELS, **OWN, **UPSTREAM})
    return models.where(settings, Catalog(settings.models).find(name))


def test_only_what_can_be_fetched_is_advised_to_be(tmp_path: Path) -> None:
    assert "--fetch" in where(tmp_path, "smollm2-135m-instruct")
    assert where(tmp_path, "mine").endswith("put it there, or correct models.mine.file)")


def test_an_upstreams_password_is_not_shown(tmp_path: Path) -> None:
    assert where(tmp_path, "far") == "http://me:[redacted]@h/v1 as far"


def test_a_missing_file_is_said_when_the_hub_answers(tmp_path: Path) -> None:
    settings = Settings(home=str(tmp_path), models={**OWN, **UPSTREAM})
    path = tmp_path / "models" / "mine.gguf"
    warning = f"missing    mine: {path}"
    assert warning in welcome.compose(settings, Key("k", None)).splitlines()
    path.parent.mkdir()
    path.touch()
    assert warning not in welcome.compose(settings, Key("k", None))


def test_a_server_is_listed_by_its_table_and_no_snippet_names_it(tmp_path: Path) -> None:
    table = {"box/*": Model(engine="ollama", url="http://me:hunter2@box:11434")}
    settings = Settings(home=str(tmp_path), models={**table, **UPSTREAM})
    head, far, box = models.rows(settings, {"box/a:1": "ready"})
    assert far.split()[0] == "far"
    assert box.split()[:3] == ["box/*", "ollama", "all"]
    assert box.endswith("every model of http://me:[redacted]@box:11434")
    assert head.index("where") == box.index("every")
    assert '"model": "far"' in welcome.compose(settings, Key("k", None))
