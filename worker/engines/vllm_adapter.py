"""Whether an engine can load an adapter, read from its folder: vLLM itself answers a plain 500."""

from __future__ import annotations

from pathlib import Path

import msgspec

from shared.errors import InvalidValue

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


class AdapterConfig(msgspec.Struct):
    """What of peft's adapter_config.json decides."""

    r: int
    peft_type: str = "LORA"
    rank_pattern: dict[str, int] | None = None
    use_dora: bool | None = None
    modules_to_save: list[str] | None = None


def check_adapter(name: str, folder: Path, most: int | None, engine: str = "vLLM") -> None:
    """Raises InvalidValue, naming what is wrong; `most` is the largest rank the engine takes."""
    try:
        config = msgspec.json.decode((folder / CONFIG).read_bytes(), type=AdapterConfig)
    except OSError as error:
        raise refused(name, f"{CONFIG} cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise refused(name, f"{CONFIG} has another shape: {error}") from error
    if not any((folder / weights).is_file() for weights in WEIGHTS):
        raise refused(name, f"it has no {WEIGHTS[0]}")
    if config.peft_type.upper() != "LORA":
        raise refused(name, f"its kind is {config.peft_type}, and only LORA can be served")
    if config.use_dora:
        raise refused(name, f"it is a DoRA, which {engine} cannot serve")
    if config.modules_to_save:
        named = ", ".join(config.modules_to_save)
        raise refused(name, f"it replaces whole modules ({named}), which {engine} cannot serve")
    rank = max(config.r, *(config.rank_pattern or {}).values(), 0)
    if most is not None and rank > most:
        raise refused(name, f"its rank is {rank}, and max_lora_rank of this model is {most}")


def refused(name: str, why: str) -> InvalidValue:
    return InvalidValue(f"The adapter {name!r} cannot be loaded: {why}.", param="adapter")
