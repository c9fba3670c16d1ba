"""The sampling parameters llama.cpp may be given, each with its type and bounds. Pure.

What is not named here never reaches llama.cpp, whose own checks let a request allocate gigabytes
or end the process.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from shared.errors import InvalidType, InvalidValue

Body = dict[str, Any]
Rule = Callable[[str, Any, int], Any]
"""(field, value, tokens of context) to the value that is sent."""

INT32 = 2**31 - 1
MOST_STRINGS = 16
LONGEST_STRING = 256
"""Characters of a sequence breaker or of a template's argument."""
SAMPLERS = frozenset(
    (
        *("penalties", "dry", "top_n_sigma", "top_k", "typ_p", "typical_p", "top_p", "min_p"),
        *("xtc", "temperature", "adaptive_p"),
    )
)


def number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidType(f"Invalid type for '{name}': expected a number.", param=name)
    if not math.isfinite(value):
        raise InvalidValue(f"Invalid value for '{name}': must be finite.", param=name)
    return value


def integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidType(f"Invalid type for '{name}': expected an integer.", param=name)
    return value


def within(low: float, high: float, *, above: bool = False) -> Rule:
    """A number from `low` (itself left out when `above`) to `high`."""
    words = f"more than {low:g}" if above else f"at least {low:g}"

    def rule(name: str, value: Any, context: int) -> float:
        given = number(name, value)
        if not low <= given <= high or (above and given == low):
            raise InvalidValue(
                f"Invalid value for '{name}': must be {words} and at most {high:g}.", param=name
            )
        return given

    return rule


def whole(low: int, high: int) -> Rule:
    """An integer of at least `low`; one above `high` counts as `high`."""

    def rule(name: str, value: Any, context: int) -> int:
        given = integer(name, value)
        if given < low:
            raise InvalidValue(f"Invalid value for '{name}': must be at least {low}.", param=name)
        return min(given, high)

    return rule


def window(name: str, value: Any, context: int) -> int:
    """A number of tokens, -1 for the whole context; llama.cpp allocates that many."""
    return int(whole(-1, context)(name, value, context))


def seed(name: str, value: Any, context: int) -> int:
    """Any integer; llama.cpp takes 32 bits and treats the largest as no seed."""
    return integer(name, value) & INT32


def flag(name: str, value: Any, context: int) -> bool:
    if not isinstance(value, bool):
        raise InvalidType(f"Invalid type for '{name}': expected a boolean.", param=name)
    return value


def one_of(*allowed: int | str) -> Rule:
    def rule(name: str, value: Any, context: int) -> int | str:
        found = next((one for one in allowed if type(one) is type(value) and one == value), None)
        if found is None:
            raise InvalidValue(
                f"Invalid value for '{name}': must be one of {', '.join(map(str, allowed))}.",
                param=name,
            )
        return found

    return rule


def strings(name: str, value: Any, context: int) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise InvalidType(f"Invalid type for '{name}': expected an array of strings.", param=name)
    if len(value) > MOST_STRINGS or any(not 0 < len(one) <= LONGEST_STRING for one in value):
        raise InvalidValue(
            f"Invalid value for '{name}': at most {MOST_STRINGS} strings of 1 to"
            f" {LONGEST_STRING} characters.",
            param=name,
        )
    return value


def samplers(name: str, value: Any, context: int) -> list[str]:
    given = strings(name, value, context)
    unknown = next((one for one in given if one not in SAMPLERS), None)
    if unknown is not None:
        raise InvalidValue(f"Invalid value for '{name}': no sampler {unknown!r}.", param=name)
    return given


def stop(name: str, value: Any, context: int) -> str | list[str]:
    given = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) for one in given):
        raise InvalidType(f"Invalid type for '{name}': expected strings.", param=name)
    if not all(given):
        raise InvalidValue(f"Invalid value for '{name}': must not be empty.", param=name)
    return list(given) if isinstance(value, list) else str(value)


def biases(name: str, value: Any, context: int) -> dict[str, float]:
    if not isinstance(value, dict):
        raise InvalidType(f"Invalid type for '{name}': expected an object.", param=name)
    bound = within(-100, 100)
    for token, bias in value.items():
        if not (token.isascii() and token.isdecimal() and int(token[:11]) <= INT32):
            raise InvalidValue(f"Invalid key in '{name}': must be a token id.", param=name)
        bound(name, bias, context)
    return value


def template_arguments(name: str, value: Any, context: int) -> Body:
    """Flags and short words for the model's chat template."""
    if not isinstance(value, dict):
        raise InvalidType(f"Invalid type for '{name}': expected an object.", param=name)
    short = all(
        isinstance(one, bool | int | float) or (isinstance(one, str) and len(one) <= LONGEST_STRING)
        for one in value.values()
    )
    if len(value) > MOST_STRINGS or not short:
        raise InvalidValue(
            f"Invalid value for '{name}': at most {MOST_STRINGS} booleans, numbers and strings of"
            f" {LONGEST_STRING} characters.",
            param=name,
        )
    if not isinstance(value.get("enable_thinking", True), bool):
        raise InvalidType(
            f"Invalid type for '{name}.enable_thinking': expected a boolean.",
            param=f"{name}.enable_thinking",
        )
    return value


RULES: dict[str, Rule] = {
    "temperature": within(0, 2),
    "top_p": within(0, 1),
    "presence_penalty": within(-2, 2),
    "frequency_penalty": within(-2, 2),
    "seed": seed,
    "stop": stop,
    "logit_bias": biases,
    "top_k": whole(-1, INT32),
    "min_p": within(0, 1),
    "typical_p": within(0, 1),
    "top_n_sigma": within(-1, 100),
    "repeat_penalty": within(0, 10, above=True),
    "repeat_last_n": window,
    "dry_multiplier": within(0, 100),
    "dry_base": within(0, 100),
    "dry_allowed_length": whole(0, INT32),
    "dry_penalty_last_n": window,
    "dry_sequence_breakers": strings,
    "xtc_probability": within(0, 1),
    "xtc_threshold": within(0, 1),
    "dynatemp_range": within(0, 2),
    "dynatemp_exponent": within(0, 10),
    "mirostat": one_of(0, 1, 2),
    "mirostat_tau": within(0, 100),
    "mirostat_eta": within(0, 1),
    "samplers": samplers,
    "ignore_eos": flag,
    "cache_prompt": flag,
    "reasoning_format": one_of("none", "auto", "deepseek", "deepseek-legacy"),
    "chat_template_kwargs": template_arguments,
}


def sampling(body: Body, context: int) -> Body:
    """The fields of `body` that llama.cpp is given; raises InvalidType and InvalidValue."""
    return {
        name: rule(name, body[name], context)
        for name, rule in RULES.items()
        if body.get(name) is not None
    }
