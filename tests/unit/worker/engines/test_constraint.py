from __future__ import annotations

from typing import Any

import pytest

from shared.errors import InvalidValue
from worker.engines.constraint import anchored, check_schema

LIST: dict[str, Any] = {
    "type": "object",
    "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
    "required": ["next"],
}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


def several(count: int) -> dict[str, Any]:
    return {"anyOf": [{"const": number} for number in range(count)]}


def fields(count: int, inner: Any) -> dict[str, Any]:
    names = [f"f{number}" for number in range(count)]
    return {"properties": dict.fromkeys(names, inner), "required": names}


TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {"anyOf": [{"items": {"$ref": "#/$defs/node"}}, {"type": "string"}]},
    },
}
TWICE = {
    "anyOf": [{"items": {"$ref": "#"}, "minItems": 1}, {"items": {"$ref": "#"}, "minItems": 2}]
}
UUID = {"pattern": "^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$"}
UNRELATED = {
    "anyOf": [{"$ref": "#/$defs/node"}, {"items": {"$ref": "#/$defs/node"}}],
    "$defs": TREE["$defs"],
}


@pytest.mark.parametrize(
    "schema",
    [
        LIST,
        TREE,
        UNRELATED,
        UUID,
        nested(60),
        several(250),
        fields(500, {"type": "string"}),
        True,
        {},
    ],
)
def test_affordable(schema: Any) -> None:
    check_schema(schema, "x")


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        (nested(100), "nested deeper than 64"),
        (nested(100_000), "nested deeper than 64"),
        (several(251), "more than 250 alternatives"),
        ({"enum": ["a"] * 251}, "more than 250 alternatives"),
        ({"anyOf": [{"enum": list(range(130))}] * 2}, "more than 250 alternatives"),
        (
            {"anyOf": [{"$ref": "#/$defs/e"}] * 200, "$defs": {"e": {"enum": [1, 2]}}},
            "more than 250 alternatives",
        ),
        ({"properties": {str(number): {} for number in range(300)}}, "more than 250 alternatives"),
        (fields(501, {}), "more than 500 properties"),
        ({"description": "x" * 70_000}, "larger than 65536"),
        ({"items": {"maxLength": 10**9}}, "lengths that add up"),
        (fields(10, {"maxLength": 1000}), "lengths that add up"),
        ({"pattern": "a?" * 200}, "pattern of more than 256"),
        ({"pattern": "((a{0,1000}){0,1000}){0,1000}"}, "repeats groups"),
        ({"pattern": "((a{0,10}){0,10}b?){0,10}"}, "repeats groups"),
        ({"pattern": "(a|b)?" * 42}, "more than 40 of"),
        ({"pattern": "[a-z]{0,1999}" * 5}, "lengths that add up"),
        ({"pattern": "a{99999999999999}"}, "lengths that add up"),
        ({"maxLength": 1e300}, "lengths that add up"),
        (TWICE, "several alternatives that contain themselves"),
        ({"$defs": {"a": TWICE}, "$ref": "#/$defs/a"}, "several alternatives"),
    ],
)
def test_too_costly(schema: Any, fault: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        check_schema(schema, "x")
    assert fault in caught.value.message
    assert caught.value.param == "x"


def test_references_to_the_root() -> None:
    sent = anchored(LIST)
    assert sent["$ref"] == "#/$defs/answer"
    node = sent["$defs"]["answer"]["properties"]["next"]["anyOf"][0]
    assert node == {"$ref": "#/$defs/answer"}
    assert anchored(TREE) is TREE
