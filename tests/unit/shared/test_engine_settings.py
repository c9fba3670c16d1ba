"""The settings of models by engine: what each needs, takes and refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.settings import Model, SettingsError, load


def read(tmp_path: Path, table: str) -> Model:
    file = tmp_path / "aihub.toml"
    file.write_text(f"[models.m]\n{table}")
    return load({"AIHUB_CONFIG": str(file)}).models["m"]


@pytest.mark.parametrize("url", ["127.0.0.1:11434", "gpu-box", "http://gpu-box:11434"])
def test_ollama_is_found_as_ollama_host_says(tmp_path: Path, url: str) -> None:
    model = read(tmp_path, f'engine = "ollama"\nurl = "{url}"\nupstream_model = "llama3.1:8b"')
    assert (model.url, model.upstream_model) == (url, "llama3.1:8b")
    assert read(tmp_path, 'engine = "ollama"').url is None


def test_adapters_are_paths_by_name(tmp_path: Path) -> None:
    table = 'engine = "llamacpp"\nfile = "m.gguf"\nadapters = { "m:tuned-1" = "tuned/1" }'
    assert read(tmp_path, table).adapters == {"m:tuned-1": "tuned/1"}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('engine = "ollama"\nurl = "unix:/run/ollama.sock"', "models.m.url: allowed are host:port"),
        ('engine = "ollama"\nurl = "https://gpu-box"', "models.m.url: allowed are host:port"),
        ('engine = "openai"\nurl = "gpu-box:8000"', "models.m.url: unknown scheme"),
        ('engine = "openai"', "models.m.url: engine 'openai' needs it"),
        ('engine = "llamacpp"', "models.m.file: engine 'llamacpp' needs it"),
        (
            'engine = "ollama"\nadapters = { "a" = "b" }',
            "models.m.adapters: engine 'ollama' takes none",
        ),
        (
            'engine = "llamacpp"\nfile = "m.gguf"\nkind = "embedding"\nadapters = { "a" = "b" }',
            "models.m.adapters: engine 'llamacpp' takes none for embedding",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, table: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, table)
    assert said in str(caught.value)
