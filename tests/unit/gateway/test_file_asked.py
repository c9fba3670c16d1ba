"""What the fields of a form say of a file."""

from __future__ import annotations

import pytest

from gateway.routes.files.asked import FileAsked, named
from shared.errors import InvalidRequest, InvalidValue

ANCHOR, SECONDS = "expires_after[anchor]", "expires_after[seconds]"


def test_all_fields() -> None:
    fields = {"purpose": "fine-tune", ANCHOR: "created_at", SECONDS: "3600"}
    assert FileAsked.read(fields, "a.jsonl") == FileAsked("a.jsonl", "fine-tune", 3600)
    assert FileAsked.read({"purpose": "evals"}, "a").seconds is None


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({}, "missing_required_parameter", "purpose"),
        ({"purpose": "fun"}, "invalid_value", "purpose"),
        ({"purpose": "fine-tune-results"}, "invalid_value", "purpose"),
        ({"purpose": "batch", ANCHOR: "created_at"}, "missing_required_parameter", SECONDS),
        ({"purpose": "batch", SECONDS: "3600"}, "missing_required_parameter", ANCHOR),
        ({"purpose": "batch", ANCHOR: "now", SECONDS: "3600"}, "invalid_value", ANCHOR),
        ({"purpose": "batch", ANCHOR: "created_at", SECONDS: "3599"}, "invalid_value", SECONDS),
        ({"purpose": "batch", ANCHOR: "created_at", SECONDS: "2592001"}, "invalid_value", SECONDS),
        ({"purpose": "batch", ANCHOR: "created_at", SECONDS: "1e4"}, "invalid_type", SECONDS),
        ({"purpose": "batch", ANCHOR: "created_at", SECONDS: "٣٦٠٠"}, "invalid_type", SECONDS),
    ],
)
def test_what_is_wrong(fields: dict[str, str], code: str, param: str) -> None:
    with pytest.raises(InvalidRequest) as wrong:
        FileAsked.read(fields, "a.jsonl")
    assert (wrong.value.code, wrong.value.param) == (code, param)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("a.jsonl", "a.jsonl"), ("/tmp/ü.txt", "ü.txt"), ("C:\\x\\b.txt", "b.txt"), (" c ", "c")],
)
def test_a_name_is_the_last_part_of_a_path(given: str, expected: str) -> None:
    assert named(given) == expected


@pytest.mark.parametrize("given", [None, "", "..", "a/", "a\r\nb", "a\x00", "n" * 256])
def test_what_is_no_name(given: str | None) -> None:
    with pytest.raises(InvalidValue):
        named(given)
