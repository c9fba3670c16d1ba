from __future__ import annotations

import pytest

from shared.errors import ContextLengthExceeded, HubError
from worker.engines.refusal import check_ids, clean, complaint, from_status

TOO_LONG = (
    b'{"error":{"code":400,"message":"request (3031 tokens) exceeds the available context size'
    b' (2048 tokens), try increasing it","type":"exceed_context_size_error",'
    b'"n_prompt_tokens":3031,"n_ctx":2048}}'
)
SCHEMA = b'{"error":{"code":400,"message":"Unable: JSON schema error at #: unrecognized type x"}}'
FIELD = b"""{"error":{"code":400,"message":"Field 'seed': [json.exception.9] must be number"}}"""


def test_too_long_has_both_numbers() -> None:
    error = from_status(400, TOO_LONG, "messages")
    assert isinstance(error, ContextLengthExceeded)
    assert error.param == "messages"
    assert error.message == (
        "This model's maximum context length is 2048 tokens. However, your messages resulted in"
        " 3031 tokens. Please reduce the length of the messages."
    )


@pytest.mark.parametrize(
    ("status", "body", "expected", "param"),
    [
        (400, SCHEMA, "invalid_value", "response_format"),
        (500, SCHEMA, "invalid_value", "response_format"),
        (400, FIELD, "invalid_value", "seed"),
        (400, b"not json", "invalid_value", "messages"),
        (401, b'{"error":"no"}', "engine_failed", None),
        (404, b"", "model_unavailable", None),
        (429, b"{}", "server_is_overloaded", None),
        (500, b'{"error":{"message":"boom"}}', "engine_failed", None),
        (503, b'{"message":"Loading model"}', "server_is_overloaded", None),
    ],
)
def test_every_status_has_an_error(status: int, body: bytes, expected: str, param: str) -> None:
    error = from_status(status, body, "messages")
    assert isinstance(error, HubError)
    assert (error.code, error.param) == (expected, param)


def test_paths_stay_inside() -> None:
    said = clean('cannot open "/home/me/models/x.gguf" at http://host/a/b and #/$defs/a\n twice')
    assert said == 'cannot open "[path]" at http://host/a/b and #/$defs/a twice'
    assert len(clean("x" * 9999)) == 400


def test_complaints_of_other_servers() -> None:
    assert complaint(b'{"error":"plain"}').message == "plain"
    assert complaint(b'{"object":"error","message":"flat"}').message == "flat"
    assert complaint(b"<html>").message == ""


def test_ids_out_of_range() -> None:
    check_ids([0, 9], 10, "prompt")
    for wrong in (-1, 10):
        with pytest.raises(HubError, match=str(wrong)) as caught:
            check_ids([1, wrong], 10, "input[3]")
        assert caught.value.param == "input[3]"
