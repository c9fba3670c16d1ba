"""Validates JSON against OpenAI's published schema, as the package llm-comply carries it.

The document is stricter than the service it describes, so it is read as clients do: an optional
property may be null, and oneOf means anyOf. Two more corrections, both what api.openai.com sends:
an embedding may be base64 text, and a streamed text completion has no finish_reason until its end.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator

Json = dict[str, Any]


@cache
def document() -> Json:
    text = files("llm_comply").joinpath("specs/openai_chat.json").read_text(encoding="utf-8")
    components: Json = {"components": relax(json.loads(text)["components"])}
    schemas = components["components"]["schemas"]
    vector = schemas["Embedding"]["properties"]["embedding"]
    schemas["Embedding"]["properties"]["embedding"] = {"anyOf": [vector, {"type": "string"}]}
    chunk = json.loads(json.dumps(schemas["CreateCompletionResponse"]))
    allow_null(chunk["properties"]["choices"]["items"]["properties"], "finish_reason")
    schemas["CreateCompletionChunk"] = chunk
    return components


def relax(node: Any) -> Any:
    """JSON Schema out of OpenAPI 3.0, with optional properties nullable."""
    if isinstance(node, list):
        return [relax(element) for element in node]
    if not isinstance(node, dict):
        return node
    schema = {("anyOf" if key == "oneOf" else key): relax(value) for key, value in node.items()}
    schema.pop("discriminator", None)
    properties = schema.get("properties")
    if isinstance(properties, dict) and schema.get("type", "object") == "object":
        required = schema.get("required", [])
        for name in properties:
            if name not in required:
                allow_null(properties, name)
    if schema.pop("nullable", False) is True:
        return {"anyOf": [schema, {"type": "null"}]}
    return schema


def allow_null(properties: Json, name: str) -> None:
    properties[name] = {"anyOf": [properties[name], {"type": "null"}]}


@cache
def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", **document()})


def check(name: str, instance: object) -> None:
    """Raises AssertionError naming every place where `instance` is not a `name`."""
    errors = [
        f"{error.json_path}: {error.message}" for error in validator(name).iter_errors(instance)
    ]
    assert not errors, f"not a {name}:\n" + "\n".join(errors) + f"\n{json.dumps(instance)[:2000]}"
