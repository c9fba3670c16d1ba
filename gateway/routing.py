"""Which model answers: `model: "auto"`, and fallbacks. Pure; every choice comes with its reason.

`auto` chooses among base models; adapters are chosen among only where a caller names them. An
adapter stands as its base does, and has its base's fallbacks.

1. What cannot answer is out: another kind, not open to auto, failed, no images, no audio, a context
   that is too short. Nothing left: an error that names what was missing.
2. Of the rest, those that declare tools or code, where the request has them, if there are any.
3. Then those that name the request's language, if there are any.
4. Then by what was asked: `best` takes the highest quality, `fast` the lowest that is resident,
   `balanced` the best of those that are resident. Ties go to the smaller context, then the name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple

from gateway.traits import Traits
from shared.catalog import Catalog, Entry
from shared.errors import ContextLengthExceeded, InvalidValue, ModelNotFound, UnsupportedValue

AUTO = "auto"
Quality = Literal["fast", "balanced", "best"]
QUALITIES: tuple[Quality, ...] = ("fast", "balanced", "best")


class Route(NamedTuple):
    """The model chosen, and why in a few words fit for a header."""

    entry: Entry
    why: str


def anything(_: Entry) -> bool:
    return True


def quality(asked: str | None) -> Quality:
    """The quality a caller asked for; raises InvalidValue."""
    for known in QUALITIES:
        if asked is None or asked == known:
            return "balanced" if asked is None else known
    raise InvalidValue(
        f"Invalid value for the header x-aihub-quality. Allowed are {', '.join(QUALITIES)}.",
        param="x-aihub-quality",
    )


def choose(
    traits: Traits,
    asked: Quality,
    catalog: Catalog,
    states: Mapping[str, str],
    among: Iterable[str] = (),
    permits: Callable[[Entry], bool] = anything,
) -> Route:
    """Rule by rule, as above. `among` restricts the choice to some names, `permits` to some models.

    Raises ModelNotFound, UnsupportedValue or ContextLengthExceeded when nothing is left.
    """
    named = {entry.name: entry for entry in map(catalog.find, among)}
    left = [
        entry
        for entry in (named.values() if named else catalog)
        if entry.model.kind == "chat"
        and (entry.model.auto or named)
        and states.get(entry.base) != "failed"
        and permits(entry)
    ]
    if not left:
        raise ModelNotFound("No model of this hub is open to 'auto' now.", param="model")
    reasons: list[str] = []
    left = able(left, traits, reasons)
    left = preferred(left, traits, reasons)
    left, last = by_quality(left, asked, states)
    reasons.append(last)
    entry = min(left, key=lambda one: (one.model.context, one.name))
    return Route(entry, f"{entry.name}; {'; '.join(reasons)}")


def able(left: list[Entry], traits: Traits, reasons: list[str]) -> list[Entry]:
    """Rule 1, what a model must have."""
    for what in ("images", "audio"):
        if getattr(traits, what):
            left = [entry for entry in left if what in entry.model.capabilities]
            reasons.append(f"takes {what}")
            if not left:
                raise UnsupportedValue(f"No model here takes {what}.", param="messages")
    longest = max(entry.model.context for entry in left)
    left = [entry for entry in left if entry.model.context >= traits.tokens]
    if not left:
        raise ContextLengthExceeded(
            f"The longest context here is {longest} tokens; this request needs about"
            f" {traits.tokens}.",
            param="messages",
        )
    return left


def preferred(left: list[Entry], traits: Traits, reasons: list[str]) -> list[Entry]:
    """Rules 2 and 3, what a model had better have."""
    for what in ("tools", "code"):
        better = [entry for entry in left if what in entry.model.capabilities]
        if getattr(traits, what) and better:
            left = better
            reasons.append(f"good at {what}")
    better = [entry for entry in left if traits.language in entry.model.languages]
    if traits.language is not None and better:
        left = better
        reasons.append(f"speaks {traits.language}")
    return left


def by_quality(
    left: list[Entry], asked: Quality, states: Mapping[str, str]
) -> tuple[list[Entry], str]:
    """Rule 4."""
    resident = [entry for entry in left if states.get(entry.base) == "ready"]
    if asked == "best" or not resident:
        top = max(entry.model.quality for entry in left)
        why = "best quality" if asked == "best" else f"quality {top}, none is loaded"
        return [entry for entry in left if entry.model.quality == top], why
    pick = min if asked == "fast" else max
    level = pick(entry.model.quality for entry in resident)
    why = f"{asked}, loaded, quality {level}"
    return [entry for entry in resident if entry.model.quality == level], why


def stand_in(
    entry: Entry,
    catalog: Catalog,
    states: Mapping[str, str],
    permits: Callable[[Entry], bool] = anything,
) -> Route | None:
    """The first permitted fallback that can answer while `entry` cannot; None: keep `entry`."""
    state = states.get(entry.base)
    if state is not None and state != "failed":
        return None
    for name in entry.model.fallbacks:
        if name not in catalog or (other := catalog.find(name)).model.kind != entry.model.kind:
            continue
        if states.get(other.base) not in (None, "failed") and permits(other):
            why = "failed" if state == "failed" else "has no worker"
            return Route(other, f"{other.name}; {entry.name} {why}")
    return None
