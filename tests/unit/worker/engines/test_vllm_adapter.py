from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.errors import InvalidValue
from worker.engines.vllm_adapter import check_adapter


def write(folder: Path, **config: object) -> Path:
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8, **config}))
    (folder / "adapter_model.safetensors").touch()
    return folder


@pytest.mark.parametrize(
    "config",
    [{}, {"r": 16}, {"rank_pattern": {"q_proj": 16}, "use_dora": False}, {"modules_to_save": None}],
)
def test_what_fits(tmp_path: Path, config: dict[str, object]) -> None:
    check_adapter("a", write(tmp_path, **config), 16)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"r": 17}, "rank is 17, and max_lora_rank of this model is 16"),
        ({"rank_pattern": {"q_proj": 32}}, "rank is 32"),
        ({"peft_type": "IA3"}, "its kind is IA3"),
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "lm_head"),
        ({"r": "eight"}, "another shape"),
    ],
)
def test_what_does_not(tmp_path: Path, config: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidValue, match=said) as caught:
        check_adapter("a", write(tmp_path, **config), 16)
    assert caught.value.param == "adapter"


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="cannot be read: No such file"):
        check_adapter("a", tmp_path, 16)
    write(tmp_path)
    (tmp_path / "adapter_model.safetensors").unlink()
    with pytest.raises(InvalidValue, match=r"no adapter_model\.safetensors"):
        check_adapter("a", tmp_path, 16)
