from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shared.weights import Layer, WeightsError, read
from tests.unit.shared.weights.configs import LLAMA, MODELS, sizes


def folder(path: Path, config: dict[str, Any]) -> Path:
    (path / "config.json").write_text(json.dumps(config))
    return path


def write_index(path: Path, size: int) -> None:
    index = {"metadata": {"total_size": size}, "weight_map": {"a": "one.safetensors"}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))


def tiny(**more: Any) -> dict[str, Any]:
    return LLAMA | sizes(64, 128, 4, (4, 2), 1000, 2048, True) | more


@pytest.mark.parametrize("name", MODELS)
def test_published_models_have_their_published_parameters(name: str, tmp_path: Path) -> None:
    config, parameters, per_token = MODELS[name]
    weights = read(folder(tmp_path, config))
    assert weights.parameters == pytest.approx(parameters, rel=0.005)
    assert weights.bytes == 2 * weights.parameters
    assert 2 * sum(layer.values for layer in weights.shape.layers) == per_token
    assert weights.source == "config"
    assert weights.notes == ()


def test_a_config_file_alone_can_be_named(tmp_path: Path) -> None:
    folder(tmp_path, MODELS["Llama-3.2-1B"][0])
    assert read(tmp_path / "config.json") == read(tmp_path)


@pytest.mark.parametrize(
    ("name", "windows"),
    [
        ("gemma-2-2b", [4096, None] * 13),
        ("gemma-3-1b-it", ([512] * 5 + [None]) * 4 + [512] * 2),
        ("Qwen2.5-7B", [None] * 28),
        ("Phi-3.5-mini-instruct", [262144] * 32),
        ("Llama-3.1-8B", [None] * 32),
    ],
)
def test_windows_of_published_models(name: str, windows: list[int | None], tmp_path: Path) -> None:
    layers = read(folder(tmp_path, MODELS[name][0])).shape.layers
    assert [layer.window for layer in layers] == windows


def test_lists_by_layer_are_honoured(tmp_path: Path) -> None:
    types = ["sliding_attention", "full_attention"] * 2
    config = tiny(
        num_key_value_heads=[1, 2, 4, 2], head_dim=32, layer_types=types, sliding_window=100
    )
    with pytest.raises(WeightsError, match="need the safetensors"):
        read(folder(tmp_path, config))
    write_index(tmp_path, 4000)
    layers = read(tmp_path).shape.layers
    assert layers == (Layer(64, 100), Layer(128), Layer(256, 100), Layer(128))


def test_compressed_heads(tmp_path: Path) -> None:
    mla = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128}
    write_index(tmp_path, 4000)
    shape = read(folder(tmp_path, tiny(model_type="deepseek_v2", **mla))).shape
    assert shape.layers == (Layer(576, None, 4 * (192 + 128)),) * 4
    assert shape.query == 4 * 192


def test_the_text_part_of_a_larger_model(tmp_path: Path) -> None:
    outer = {"model_type": "llava", "torch_dtype": "float16", "text_config": tiny(torch_dtype=None)}
    folder(tmp_path, outer)
    with pytest.raises(WeightsError, match="more than a text part"):
        read(tmp_path)
    write_index(tmp_path, 4000)
    weights = read(tmp_path)
    assert weights.shape.architecture == "llama"
    assert (weights.parameters, weights.bytes, weights.source) == (2000, 4000, "index")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (tiny(model_type="mamba2", mamba_d_state=128), "mamba_d_state"),
        (tiny(model_type="newthing"), "newthing are not known"),
        (tiny(hidden_size=None), "lacks hidden_size"),
        (tiny(layer_types=["linear_attention"] * 4), "linear_attention"),
        (tiny(layer_types=["full_attention"] * 3), "3 entries for 4 layers"),
        (tiny(layer_types=["sliding_attention"] * 4), "lacks sliding_window"),
        (tiny(num_key_value_heads=[1, 2]), "2 entries for 4 layers"),
        (tiny(is_encoder_decoder=True), "Encoder-decoder"),
        (tiny(quantization_config={"quant_method": "awq"}), "awq"),
        (tiny(torch_dtype="float4"), "float4"),
        (tiny(vocab_size="many"), "unusual"),
    ],
)
def test_what_is_not_understood_is_refused(
    config: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=said):
        read(folder(tmp_path, config))


def test_assumptions_are_said(tmp_path: Path) -> None:
    weights = read(folder(tmp_path, tiny(torch_dtype=None)))
    assert "32 bits" in weights.notes[0]
    assert weights.bytes == 4 * weights.parameters
    write_index(tmp_path, 4000)
    weights = read(folder(tmp_path, tiny(model_type="newthing", sliding_window=128)))
    assert "counted whole" in weights.notes[0]


def test_a_folder_without_a_config_is_none(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no config\.json"):
        read(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="not JSON"):
        read(tmp_path)
    with pytest.raises(WeightsError, match="cannot be read"):
        read(tmp_path / "nothing.gguf")
