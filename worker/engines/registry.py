"""Which engine runs a model."""

from __future__ import annotations

from shared.settings import Model, Settings
from worker.engines.base import Engine, Reservation
from worker.engines.llamacpp import LlamaCpp
from worker.engines.ollama import Ollama
from worker.engines.openai import OpenAi
from worker.engines.transformers import Transformers
from worker.engines.vllm import Vllm


def build(
    name: str, model: Model, settings: Settings, reservation: Reservation | None = None
) -> Engine:
    """The engine for `model`, not started; vLLM and transformers need a `reservation` to start."""
    if model.engine == "llamacpp":
        return LlamaCpp(name, model, settings)
    if model.engine == "ollama":
        return Ollama(name, model, settings)
    if model.engine == "vllm":
        return Vllm(name, model, settings, reservation)
    if model.engine == "transformers":
        return Transformers(name, model, settings, reservation)
    return OpenAi(name, model)
