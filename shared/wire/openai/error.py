"""The error object, and what msgspec finds wrong with a request in OpenAI's words."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from shared.errors import (
    InvalidRequest,
    InvalidType,
    InvalidValue,
    MissingParameter,
    UnsupportedParameter,
)
from shared.wire.event import Failed

T = TypeVar("T")

JSON_NAMES = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "a boolean",
    "object": "an object",
    "array": "an array",
    "null": "null",
}
MISSING = re.compile(r"^Object missing required field `(\w+)`$")
EXPECTED = re.compile(r"^Expected `([^`]+)`(?:, got `([^`]+)`)?$")
UNKNOWN = re.compile(r"^Object contains unknown field `(.*)`$")
BOUND = re.compile(r"^Expected `\w+` (>=|<=|>|<|of length >=|of length <=) ([-\d.]+)$")
BOUND_WORDS = {
    ">=": "at least",
    "<=": "at most",
    ">": "more than",
    "<": "less than",
    "of length >=": "of length at least",
    "of length <=": "of length at most",
}


class ErrorObject(msgspec.Struct):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(msgspec.Struct):
    error: ErrorObject


def encode(failed: Failed) -> bytes:
    """`{"error": {…}}` with all four keys."""
    return msgspec.json.encode(
        ErrorReply(ErrorObject(failed.message, failed.type, failed.param, failed.code))
    )


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """The request in `body`; raises InvalidRequest whose param names the field that is wrong."""
    try:
        if not body.isascii():
            body.decode("utf-8")
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise describe(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"The body of the request is not valid JSON: {error}") from None


def describe(fault: str) -> InvalidRequest:
    """Turn ``Expected `str`, got `int` - at `$.messages[0].role` `` into an error with a param."""
    reason, _, where = fault.partition(" - at ")
    param = where.removeprefix("`key` in ").strip("`").removeprefix("$").removeprefix(".")
    param = param.removesuffix("[...]")
    named = f"'{param}'" if param else "the body"
    if missing := MISSING.match(reason):
        param = f"{param}.{missing[1]}" if param else missing[1]
        return MissingParameter(f"Missing required parameter: '{param}'.", param=param)
    if unknown := UNKNOWN.match(reason):
        param = f"{param}.{unknown[1]}" if param else unknown[1]
        return UnsupportedParameter(f"Unknown parameter: '{param}'.", param=param)
    if where.startswith("`key` in "):
        return InvalidValue(f"Invalid key in {named}: {reason}.", param=param)
    if expected := EXPECTED.match(reason):
        wanted = " or ".join(JSON_NAMES.get(kind, kind) for kind in expected[1].split(" | "))
        got = f", but got {JSON_NAMES.get(expected[2], expected[2])}" if expected[2] else ""
        message = f"Invalid type for {named}: expected {wanted}{got} instead."
        return InvalidType(message if got else message.replace(" instead", ""), param=param or None)
    if bound := BOUND.match(reason):
        limit = bound[2].removesuffix(".0")
        words = f"{BOUND_WORDS[bound[1]]} {limit}"
        return InvalidValue(f"Invalid value for {named}: must be {words}.", param=param or None)
    return InvalidValue(f"Invalid value for {named}: {reason}.", param=param or None)
