"""What the stand-in for `ollama serve` has on its disk in most tests."""

from __future__ import annotations

from shared.settings import DEFAULT_MODELS
from tests import models
from tests.fakes.ollama_memory import Served

CHAT = "smollm2:135m"
EMBEDDING = "all-minilm"
DISK = {
    CHAT: Served(DEFAULT_MODELS[models.CHAT], ("completion",), "llama"),
    f"{EMBEDDING}:latest": Served(DEFAULT_MODELS[models.EMBEDDING], ("embedding",), "bert"),
}
