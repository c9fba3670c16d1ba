"""LoRA adapters beside a model, several in one batch, by peft."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from worker.engines.transformers_child.refusal import Refusal

BASE = "__base__"
"""What peft calls the model without an adapter."""
FILE = "adapter_model.safetensors"


def prepare() -> None:
    """Imports what the first load would wait for; where it is missing, that load says so."""
    with suppress(ImportError):
        import peft  # noqa: F401


class Adapters:
    """Called by the model's thread alone. peft's names are ours: theirs may hold no dots."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._known: dict[str, str] = {}
        self._made = 0
        self._hooked: set[int] = set()
        self._chosen: list[str] | None = None

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def load(self, name: str, folder: Path) -> None:
        """Raises Refusal for one that does not fit the model."""
        from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict
        from safetensors.torch import load_file

        self._made += 1
        inner = f"a{self._made}"
        try:
            config = LoraConfig.from_pretrained(str(folder))
            config.inference_mode = True
            tensors = load_file(folder / FILE)
            inject_adapter_in_model(config, self._model, adapter_name=inner)
            found = set_peft_model_state_dict(self._model, tensors, adapter_name=inner)
            if strange := list(getattr(found, "unexpected_keys", ())):
                raise ValueError(f"the model has nothing for {strange[0]}")
        except Exception as error:
            self._forget(inner)
            said = " ".join(str(error).split())[:300]
            raise Refusal(
                f"The adapter {name!r} cannot be loaded: {said}", param="adapter"
            ) from error
        self._model.eval().requires_grad_(False)
        self._hook()
        self._known[name] = inner

    def unload(self, name: str) -> None:
        """Idempotent; no request may be using it."""
        inner = self._known.pop(name, None)
        if inner is not None:
            self._forget(inner)

    @contextmanager
    def chosen(self, names: list[str]) -> Iterator[None]:
        """For each row of the step inside its adapter, empty: none."""
        self._chosen = [self._known[name] if name else BASE for name in names]
        try:
            yield
        finally:
            self._chosen = None

    def _hook(self) -> None:
        """Tell every adapted layer, at each call, what its rows are computed with."""
        for layer in self._layers():
            if id(layer) not in self._hooked:
                self._hooked.add(id(layer))
                layer.register_forward_pre_hook(self._tell, with_kwargs=True)

    def _tell(self, _: torch.nn.Module, args: Any, told: dict[str, Any]) -> Any:
        return args, told | {"adapter_names": self._chosen}

    def _forget(self, inner: str) -> None:
        for layer in self._layers():
            layer.delete_adapter(inner)
        getattr(self._model, "peft_config", {}).pop(inner, None)

    def _layers(self) -> list[Any]:
        from peft.tuners.tuners_utils import BaseTunerLayer

        return [layer for layer in self._model.modules() if isinstance(layer, BaseTunerLayer)]
