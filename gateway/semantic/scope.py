"""What of a chat request must be the same for an answer to be shared, and what is compared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from gateway.semantic.guard import LONGEST
from shared.store.semantic import Question

NOT_PART = frozenset(
    ("stream", "stream_options", "user", "metadata", "service_tier", "store", "model")
)
"""Fields that do not change what is answered; the model is named by its own digest."""

decode = msgspec.json.Decoder(dict[str, object]).decode
encode = msgspec.json.Encoder(order="deterministic").encode


def question_of(
    body: bytes, *, project: str, model: str, version: str, embedder: str
) -> Question | None:
    """The last user text of a chat request and the digest of all the rest.

    `version` names weights, adapter version and settings of the model, as its fingerprint does;
    `embedder` is the model whose embeddings are compared. None when the request does not end with
    a text of the user's: an answer to a tool's result or an image is never shared.
    """
    request = decode(body)
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages:
        return None
    *before, last = messages
    text = user_text(last)
    if text is None or not text.strip() or len(text) > LONGEST:
        return None
    rest = {name: value for name, value in request.items() if name not in NOT_PART}
    rest["messages"] = [*before, {**last, "content": None}]
    scope = digest(part.encode() for part in (model, version, embedder)) + encode(rest)
    return Question(
        project, hashlib.sha256(scope).digest(), text, hashlib.sha256(text.encode()).digest(), model
    )


def user_text(message: object) -> str | None:
    """The content of a user's message that is one text."""
    if not isinstance(message, dict) or message.get("role") != "user":
        return None
    content = message.get("content")
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], dict):
        part = content[0]
        content = part.get("text") if part.get("type") == "text" else None
    return content if isinstance(content, str) else None


def digest(parts: Iterable[bytes]) -> bytes:
    """Of parts with their lengths, so that no two lists of parts read the same."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8) + part)
    return whole.digest()
