"""What a JSON schema may cost the engine that holds a model to it. Pure.

llama.cpp compiles a schema to a grammar and then walks every alternative that is still possible
for every token of the vocabulary, while all other streams wait. Measured on SmolLM2-135M and one
busy core, the longest gap in a stream beside it: 0.1 s for 500 required properties, 6 s for an
enum of 1,000 words, 5 s for lengths that add up to 40,000, no end for two alternatives that both
contain themselves.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

from shared.errors import InvalidValue
from worker.engines.forcing import rebase

Schema = dict[str, Any]

LARGEST = 64 * 1024
"""Bytes of a schema as JSON."""
DEEPEST = 64
MOST_PROPERTIES = 500
MOST_ALTERNATIVES = 250
"""Alternatives that may be possible at one place of the answer."""
LONGEST_REPETITION = 8_000
"""Sum of all lengths and item counts a schema names."""
LONGEST_PATTERN = 256
MOST_BRANCHES = 40
MOST_NESTED = 1_500
"""Product of all repetitions of a pattern that repeats groups."""
ESCAPED = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]")
TIMES = re.compile(r"\{(?:\d*,)?(\d{1,9})\d*,?\}")
LENGTHS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
ROOT = "#/$defs/answer"


def check_schema(schema: Any, param: str) -> None:
    """Raises InvalidValue, with `param`, for a schema that costs too much."""
    if depth(schema) > DEEPEST:
        raise InvalidValue(f"The schema is nested deeper than {DEEPEST} levels.", param=param)
    if len(msgspec.json.encode(schema)) > LARGEST:
        raise InvalidValue(f"The schema is larger than {LARGEST} bytes.", param=param)
    cost = Cost(schema, param)
    if cost.breadth(schema) > MOST_ALTERNATIVES:
        raise InvalidValue(
            f"The schema has more than {MOST_ALTERNATIVES} alternatives at one place.", param=param
        )


def depth(value: Any) -> int:
    """Levels of nesting, found without recursion."""
    levels = 0
    level = [value]
    while level and levels <= DEEPEST * 2:
        levels += 1
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    return levels


def anchored(schema: Schema) -> Schema:
    """The same schema without references to its root, which llama.cpp does not resolve."""
    if not refers_to_root(schema):
        return schema
    return {"$ref": ROOT, "$defs": {"answer": rebase(schema, ROOT)}}


def refers_to_root(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(refers_to_root, value))
    if not isinstance(value, dict):
        return False
    return value.get("$ref") == "#" or any(map(refers_to_root, value.values()))


def resolve(root: Any, reference: str) -> Any:
    """What `#/…` names, None when it names nothing here."""
    found = root
    for key in reference.removeprefix("#").split("/")[1:]:
        if not isinstance(found, dict):
            return None
        found = found.get(key)
    return found


def repeats_repeated(pattern: str) -> bool:
    """Whether a counted group holds another counted group."""
    open_groups = [False]
    plain = ESCAPED.sub("x", pattern)
    for at, sign in enumerate(plain):
        if sign == "(":
            open_groups.append(False)
        elif sign == ")" and len(open_groups) > 1:
            inner = open_groups.pop()
            counted = plain.startswith("{", at + 1)
            if inner and counted:
                return True
            open_groups[-1] = open_groups[-1] or inner or counted
    return False


class Cost:
    """Walks one schema; every reference is followed once."""

    def __init__(self, root: Any, param: str) -> None:
        self._root = root
        self._param = param
        self._known: dict[str, int] = {}
        self._open: list[str] = ["#"]
        self._returns: list[str] = []
        """References met so far that lead back into what is being walked."""
        self._loops: dict[str, list[str]] = {}
        """What each known reference leads back into."""
        self._properties = 0
        self._repetition = 0

    def breadth(self, schema: Any) -> int:
        """Alternatives that can be possible at once; raises InvalidValue."""
        if not isinstance(schema, dict):
            return 1
        self._count(schema)
        found = [1]
        reference = schema.get("$ref")
        if isinstance(reference, str):
            found.append(self._follow(reference))
        values = schema.get("enum")
        if isinstance(values, list):
            found.append(len(values))
        found += [
            self._either(schema[word], alternatives=word != "allOf")
            for word in ("anyOf", "oneOf", "allOf")
            if isinstance(schema.get(word), list)
        ]
        properties = schema.get("properties")
        if isinstance(properties, dict):
            required = schema.get("required")
            needed = len(required) if isinstance(required, list) else 0
            found.append(1 + max(0, len(properties) - needed))
            found += [self.breadth(inner) for inner in properties.values()]
        for word in ("items", "prefixItems", "additionalProperties"):
            inner = schema.get(word)
            found += [self.breadth(one) for one in (inner if isinstance(inner, list) else [inner])]
        kinds = schema.get("type")
        return max(found) + (len(kinds) if isinstance(kinds, list) else 0)

    def _count(self, schema: Schema) -> None:
        properties = schema.get("properties")
        self._properties += len(properties) if isinstance(properties, dict) else 0
        if self._properties > MOST_PROPERTIES:
            raise self._refused(f"has more than {MOST_PROPERTIES} properties")
        for word in LENGTHS:
            length = schema.get(word)
            self._repetition += max(0, int(length)) if isinstance(length, int | float) else 0
        pattern = schema.get("pattern")
        if isinstance(pattern, str):
            self._count_pattern(pattern)
        if self._repetition > LONGEST_REPETITION:
            raise self._refused(f"has lengths that add up to more than {LONGEST_REPETITION}")

    def _count_pattern(self, pattern: str) -> None:
        if len(pattern) > LONGEST_PATTERN:
            raise self._refused(f"has a pattern of more than {LONGEST_PATTERN} characters")
        if sum(map(ESCAPED.sub("x", pattern).count, "?*|")) > MOST_BRANCHES:
            raise self._refused(f"has a pattern with more than {MOST_BRANCHES} of ?, * and |")
        times = [int(found[1]) for found in TIMES.finditer(pattern)]
        self._repetition += sum(times)
        # Every way to share the text out among nested repetitions is kept as an alternative.
        product = math.prod(max(1, each) for each in times)
        if repeats_repeated(pattern) or ("){" in pattern and product > MOST_NESTED):
            raise self._refused(f"has a pattern that repeats groups more than {MOST_NESTED} times")

    def _either(self, choices: list[Any], *, alternatives: bool) -> int:
        total = recursive = 0
        around = set(self._open)
        for choice in choices:
            before = len(self._returns)
            total += self.breadth(choice)
            recursive += not around.isdisjoint(self._returns[before:])
        if alternatives and recursive > 1:
            raise self._refused("has several alternatives that contain themselves")
        return total

    def _follow(self, reference: str) -> int:
        if reference in self._open:
            self._returns.append(reference)
            return 1
        if reference not in self._known:
            before = len(self._returns)
            self._open.append(reference)
            self._known[reference] = self.breadth(resolve(self._root, reference))
            self._open.pop()
            self._loops[reference] = list(set(self._returns[before:]))
        else:
            self._returns += self._loops[reference]
        return self._known[reference]

    def _refused(self, fault: str) -> InvalidValue:
        return InvalidValue(f"The schema {fault}.", param=self._param)
