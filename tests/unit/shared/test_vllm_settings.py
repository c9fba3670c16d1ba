"""The settings of a model that vLLM runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.settings import Settings, SettingsError, load
from shared.vllm import adapter_rank

TABLE = """
[models.m]
engine = "vllm"
weights = "org/model"
python = "/opt/vllm/bin/python"
"""


def read(tmp_path: Path, more: str, before: str = "") -> Settings:
    file = tmp_path / "aihub.toml"
    file.write_text(before + TABLE + more)
    return load({"AIHUB_CONFIG": str(file)})


def test_a_full_table_is_taken(tmp_path: Path) -> None:
    read(
        tmp_path,
        'dtype = "bfloat16"\nquantization = "fp8"\ntensor_parallel = 2\nmax_lora_rank = 32\n'
        'max_loras = 2\ntool_parser = "hermes"\narguments = ["--seed", "7"]\n'
        '[models.m.adapters]\nmine = "adapters/mine"\n',
    )


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('kind = "embedding"', "models.m.kind: engine 'vllm' serves chat models only"),
        ("max_lora_rank = 7", "models.m.max_lora_rank: allowed: 1, 8, 16"),
        ('max_lora_rank = 0\nadapters = {a = "a"}', "max_lora_rank: 0 takes none of its adapters"),
        ("tensor_parallel = 0", "models.m.tensor_parallel: 0 is out of range"),
        ('arguments = ["--uds=/x"]', "models.m.arguments: --uds is set by the hub"),
        ('arguments = ["--max_model_len", "9"]', "--max-model-len is set by the hub"),
        ('dtype = "int3"', "dtype"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, more: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        read(tmp_path, more)


@pytest.mark.parametrize(
    ("before", "more", "rank"),
    [
        ("", "", None),
        ('train_python = "python"', "", 16),
        ('train_python = "python"', "max_lora_rank = 8", 8),
        ('train_python = "python"', "max_lora_rank = 0", None),
    ],
)
def test_adapters_are_taken_where_the_hub_makes_some(
    tmp_path: Path, before: str, more: str, rank: int | None
) -> None:
    assert adapter_rank(read(tmp_path, more, before).models["m"]) == rank


def test_both_places_are_needed(tmp_path: Path) -> None:
    file = tmp_path / "aihub.toml"
    file.write_text('[models.m]\nengine = "vllm"\nweights = "a/b"\n')
    with pytest.raises(SettingsError, match=r"models\.m\.python: engine 'vllm' needs it"):
        load({"AIHUB_CONFIG": str(file)})
