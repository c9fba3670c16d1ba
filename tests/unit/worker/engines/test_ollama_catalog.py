"""A model of Ollama's list in the hub's words."""

from __future__ import annotations

import msgspec
import pytest

from shared.wire.node import Offered
from worker.engines.ollama_catalog import offered
from worker.engines.ollama_server import Details, Offer, Shown

GEMMA = Offer("gemma3:latest", digest="a2af", details=Details(context_length=131_072))
SHOWN = b"""{"capabilities":["completion","vision","tools"],"license":"...","model_info":{
"general.architecture":"gemma3","gemma3.attention.head_count":8,"gemma3.context_length":131072,
"gemma3.embedding_length":2560,"tokenizer.ggml.tokens":null}}"""


def test_a_chat_model() -> None:
    assert offered(GEMMA, msgspec.json.decode(SHOWN, type=Shown)) == Offered(
        "gemma3:latest", "chat", 131_072, ("images", "tools"), "a2af"
    )


@pytest.mark.parametrize(
    ("told", "kind", "capabilities"),
    [
        (["completion", "insert"], "chat", ("code",)),
        (["embedding"], "embedding", ()),
        ([], "chat", ()),
        (["completion", "audio", "thinking"], "chat", ("audio",)),
    ],
)
def test_kinds_and_capabilities(told: list[str], kind: str, capabilities: tuple[str, ...]) -> None:
    found = offered(Offer("x:1"), Shown(told))
    assert found == Offered("x:1", kind, 0, capabilities)  # type: ignore[arg-type]


def test_what_neither_chats_nor_embeds_is_not_offered() -> None:
    assert offered(Offer("flux:1"), Shown(["image"])) is None


def test_the_lists_own_word_where_nothing_is_shown() -> None:
    offer = Offer("e:1", details=Details(context_length=512), capabilities=("embedding",))
    assert offered(offer, Shown()) == Offered("e:1", "embedding", 512)
