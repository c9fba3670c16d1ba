"""Whether an engine can load an adapter, read from its folder: vLLM itself answers a plain 500."""

from __future__ import annotations

from pathlib import Path

import msgspec

from shared.errors import InvalidValue

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")

PROJECTIONS = ("o_proj", "q_proj", "out_proj", "dense", "c_proj", "wo")
"""What models call a projection of their attention, the most common name first."""


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


def make_empty(folder: Path, weights: Path) -> None:
    """An adapter that changes nothing of these weights: vLLM wants one matrix of a known kind, and
    applies it where the model has that name, which is nowhere.
    """
    module = known_module(weights)
    folder.mkdir(mode=0o700)
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": [module]}
    (folder / CONFIG).write_bytes(msgspec.json.encode(config))
    header = {
        f"base_model.model.plain.{module}.{name}.weight": {
            "dtype": "F32",
            "shape": [1, 1],
            "data_offsets": [at, at + 4],
        }
        for name, at in (("lora_A", 0), ("lora_B", 4))
    }
    told = msgspec.json.encode(header)
    (folder / WEIGHTS[0]).write_bytes(len(told).to_bytes(8, "little") + told + bytes(8))


def known_module(weights: Path) -> str:
    """A projection of the model that an adapter may change."""
    names: set[str] = set()
    for file in weights.glob("*.safetensors"):
        with file.open("rb") as read:
            header = msgspec.json.decode(read.read(int.from_bytes(read.read(8), "little")))
        names |= {name.removesuffix(".weight").rpartition(".")[2] for name in header}
    return next((module for module in PROJECTIONS if module in names), PROJECTIONS[0])


def refused(name: str, why: str) -> InvalidValue:
    return InvalidValue(f"The adapter {name!r} cannot be loaded: {why}.", param="adapter")
