from __future__ import annotations

from importlib.resources import files

import pytest

from shared.db import queries, split


def test_queries_are_split_by_name() -> None:
    text = "\n-- name: first\nSELECT 1;\n\n-- name: second_1\n-- why\nSELECT 2,\n    ';';\n"
    assert split(text) == {"first": "SELECT 1", "second_1": "-- why\nSELECT 2,\n    ';'"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("SELECT 1;\n-- name: a\nSELECT 2;", "before the first"),
        ("-- name: a\n\n-- name: b\nSELECT 2;", "a is empty"),
        ("-- name: a\nSELECT 1;\n-- name: a\nSELECT 2;", "a is there twice"),
    ],
)
def test_a_file_that_would_lose_a_query_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        split(text)


@pytest.mark.parametrize(
    "noun", sorted(path.name[:-4] for path in files("shared").joinpath("sql").iterdir())
)
def test_every_file_of_queries_can_be_read(noun: str) -> None:
    assert queries(noun)


def test_queries_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        queries("api_key")["find_api_key"] = "SELECT 1"  # type: ignore[index]
