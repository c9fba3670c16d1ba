"""How long a job will take, and by what that is known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import msgspec
import pytest

from shared.weights import read
from tests.unit.shared.weights.configs import MODELS
from tests.unit.trainer.test_correction import CHOSEN, SETUP, ran
from trainer.speed import CARD_SHARE, Load, Read, duration, forward, load, passes, stated

WORK = Load(tokens=10_000, judged=0, work=2e9, forward=1e9)


@pytest.mark.parametrize("name", ["Llama-3.2-1B", "Mistral-7B-v0.3", "Qwen2.5-7B", "SmolLM2-1.7B"])
def test_a_token_costs_twice_the_weights_that_it_meets(name: str, tmp_path: Path) -> None:
    config, parameters, _ = MODELS[name]
    (tmp_path / "config.json").write_text(json.dumps(config))
    shape = read(tmp_path).shape
    table = 0 if config.get("tie_word_embeddings") else shape.vocabulary * shape.hidden
    assert forward(shape, 0) == pytest.approx(2 * (parameters - table), rel=0.01)
    long = forward(shape, 4096) - forward(shape, 0)
    assert long == 2.0 * len(shape.layers) * shape.query * 4096


def test_how_often_a_token_is_computed() -> None:
    assert passes("supervised", checkpointing=False) == 2
    assert passes("supervised", checkpointing=True) == 3
    assert passes("dpo", checkpointing=True) == 4


def test_a_job_reads_its_file_in_each_epoch_and_the_other_in_each_validation(
    tmp_path: Path,
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(MODELS["Llama-3.2-1B"][0]))
    shape = read(tmp_path).shape
    often = msgspec.structs.replace(CHOSEN, validate_every=5)
    found = load(shape, often, "supervised", 20, Read(1000, 10), Read(300, 3))
    assert (found.tokens, found.judged) == (2000, 1500)
    assert found.work == 3 * found.forward == 3 * forward(shape, 100)
    assert load(shape, often, "supervised", 20, Read(1000, 10), Read()).judged == 0


def test_runs_of_this_base_come_first_and_of_them_the_nearest() -> None:
    near, far = ran(batch=2), ran(batch=1, tokens_per_second=7.0)
    other = ran(base="other", batch=4, tokens_per_second=9.0)
    found = duration(WORK, SETUP, [other, far, near], 1e15)
    assert found is not None
    assert (found.basis, found.tokens_per_second) == ("measured", 100.0)
    assert found.seconds == 10_000 / 100 + 5.0


def test_other_bases_tell_the_speed_of_the_device() -> None:
    found = duration(WORK, SETUP, [ran(base="other", work=1e9, tokens_per_second=100.0)], 1e15)
    assert found is not None
    assert (found.basis, found.tokens_per_second) == ("estimated", 50.0)


def test_before_any_run_the_device_itself_is_asked() -> None:
    judged = msgspec.structs.replace(WORK, judged=2000)
    found = duration(judged, SETUP, [ran(short=True)], 2e12)
    assert found is not None
    assert found.tokens_per_second == 1000 * CARD_SHARE
    assert math.isclose(found.seconds, 11_000 / (1000 * CARD_SHARE))
    assert duration(WORK, SETUP, [], None) is None


def test_cards_are_known_by_a_part_of_their_name() -> None:
    assert stated("NVIDIA H100 80GB HBM3") == 989e12
    assert stated("NVIDIA L40S") == 362e12
    assert stated("NVIDIA A100-SXM4-80GB") == 312e12
    assert stated("cuda:0") is None
