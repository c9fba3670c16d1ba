from __future__ import annotations

from typing import Any

import pytest

from shared.errors import InvalidRequest
from worker.engines.sampling import sampling

CONTEXT = 1024


@pytest.mark.parametrize(
    ("field", "given", "sent"),
    [
        ("repeat_last_n", 2**31 - 1, CONTEXT),
        ("repeat_last_n", -1, -1),
        ("dry_penalty_last_n", 2**63, CONTEXT),
        ("top_k", 2**63, 2**31 - 1),
        ("top_k", 40, 40),
        ("seed", 7, 7),
        ("seed", 2**31, 0),
        ("seed", -(2**63), 0),
        ("mirostat", 2, 2),
        ("stop", ["a"], ["a"]),
        ("stop", "a", "a"),
        ("samplers", ["top_k", "min_p"], ["top_k", "min_p"]),
        ("reasoning_format", "none", "none"),
        ("logit_bias", {"5": -100}, {"5": -100}),
        ("chat_template_kwargs", {"enable_thinking": False}, {"enable_thinking": False}),
    ],
)
def test_sent(field: str, given: Any, sent: Any) -> None:
    assert sampling({field: given}, CONTEXT) == {field: sent}


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("repeat_penalty", 0),
        ("repeat_penalty", "1"),
        ("repeat_penalty", float("inf")),
        ("temperature", float("nan")),
        ("repeat_last_n", -2),
        ("repeat_last_n", 1.5),
        ("top_k", True),
        ("mirostat", 3),
        ("mirostat", True),
        ("stop", ""),
        ("stop", ["a", ""]),
        ("stop", [1]),
        ("samplers", ["infill"]),
        ("samplers", "kp"),
        ("dry_sequence_breakers", ["x"] * 17),
        ("dry_sequence_breakers", ["x" * 257]),
        ("reasoning_format", "loud"),
        ("reasoning_format", {}),
        ("ignore_eos", 1),
        ("logit_bias", {"hello": 1}),
        ("logit_bias", {"9" * 30: 1}),
        ("logit_bias", [[1, 2]]),
        ("chat_template_kwargs", {"enable_thinking": "yes"}),
        ("chat_template_kwargs", {"deep": {}}),
    ],
)
def test_refused(field: str, given: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        sampling({field: given}, CONTEXT)
    assert str(caught.value.param).startswith(field)


def test_everything_else_is_dropped() -> None:
    others = ("n_probs", "n_keep", "id_slot", "lora", "t_max_predict_ms", "n_cmpl", "anything")
    assert sampling(dict.fromkeys(others, 2**31 - 1), CONTEXT) == {}
