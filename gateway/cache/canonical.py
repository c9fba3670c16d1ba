"""What of a request its answer depends on, written one way, and the digest of it. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from shared.catalog import Entry
from shared.defaults import filled
from shared.wire.task import Kind

FORMAT = "1"
"""Changes with the form in which answers are kept and with the rules below."""
NOT_PART = frozenset(
    (
        *("model", "stream", "stream_options", "user", "metadata", "service_tier", "store"),
        *("keep_alive", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
    )
)
"""Fields that do not change what is answered; the model is named by its own part."""
EMBEDDING = ("input", "dimensions")

decode = msgspec.json.Decoder(dict[str, Any]).decode
encode = msgspec.json.Encoder(order="deterministic").encode
pack = msgspec.msgpack.Encoder().encode


def digest(
    kind: Kind, entry: Entry, body: bytes, *, project: str, fingerprint: str, identity: str
) -> str:
    """In hex. `fingerprint` names settings and adapter, `identity` the files of the model."""
    adapter = entry.adapter
    version = () if adapter is None else (adapter.name, adapter.path)
    whole = hashlib.sha256(
        pack((FORMAT, project, kind, entry.base, version, fingerprint, identity))
    )
    whole.update(canonical(kind, body, entry.model.defaults))
    return whole.hexdigest()


def canonical(kind: Kind, body: bytes, defaults: Mapping[str, float | int]) -> bytes:
    """A request that was checked, without what makes no difference, in one order of its fields.

    Two requests that read the same ask the same; the reverse is not promised.
    """
    given = decode(body)
    if kind == "embedding":
        fields = {name: given.get(name) for name in EMBEDDING}
        fields["input"] = several(fields["input"])
        return encode(fields)
    said = {name: value for name, value in given.items() if value is not None}
    fields = {
        name: plain(value) for name, value in filled(defaults, said).items() if name not in NOT_PART
    }
    if "max_completion_tokens" in fields:
        fields["max_tokens"] = fields.pop("max_completion_tokens")
    if fields.get("n") == 1:
        del fields["n"]
    if fields.get("logprobs") is False:
        del fields["logprobs"]
    if isinstance(fields.get("stop"), str):
        fields["stop"] = [fields["stop"]]
    if kind == "completion":
        fields["prompt"] = several(fields.get("prompt"))
    return encode(fields)


def plain(value: Any) -> Any:
    """1.0 is 1."""
    return int(value) if type(value) is float and value.is_integer() else value


def several(given: Any) -> Any:
    """One text, or one array of tokens, is a list of one."""
    alone = not isinstance(given, list) or (given and isinstance(given[0], int))
    return [given] if alone else given


def repeats(kind: Kind, temperature: float | None, defaults: Mapping[str, float | int]) -> bool:
    """Whether another try would say the same: an embedding, or an answer at temperature 0."""
    if kind == "embedding":
        return True
    return (defaults.get("temperature") if temperature is None else temperature) == 0
