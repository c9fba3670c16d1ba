"""Which engine runs a model."""

from __future__ import annotations

from shared.settings import Model, Settings
from worker.engines.base import Engine
from worker.engines.llamacpp import LlamaCpp
from worker.engines.ollama import Ollama
from worker.engines.openai import OpenAi


def build(name: str, model: Model, settings: Settings) -> Engine:
    """The engine for `model`, not started."""
    if model.engine == "llamacpp":
        return LlamaCpp(name, model, settings)
    if model.engine == "ollama":
        return Ollama(name, model, settings)
    return OpenAi(name, model)
