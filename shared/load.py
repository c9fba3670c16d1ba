"""How a model is to be run, as far as its memory depends on it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from shared.settings import Model, Settings
from shared.vllm import RANK, adapter_rank, lora_slots
from shared.weights import WeightsError, read_adapter

Engine = Literal["llamacpp", "vllm", "transformers"]
Device = Literal["cpu", "cuda"]
PREFILL_STEP = 64
"""llamacpp, as our child starts a chat model: a prompt is read in steps between others' tokens."""
PROMPT_PIECE: dict[Device, int] = {"cpu": 128, "cuda": 512}
"""transformers, as our child runs it: prompt tokens read between two tokens of other answers."""
BATCHED_TOKENS = 2048
"""vLLM's own default for --max-num-batched-tokens on cards under 70 GiB; 8192 on larger ones."""
ELSEWHERE = {"openai": "an upstream server", "ollama": "an Ollama server"}


class Load(msgspec.Struct, frozen=True, kw_only=True):
    engine: Engine
    device: Device
    context: int
    """Tokens of one request, prompt and answer together."""
    parallel: int
    """Requests at once."""
    embedding: bool = False
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """Of weights and activations; llamacpp takes the file's."""
    adapters: int = 0
    """Bytes of the LoRA adapters that are loaded with it."""
    step: int = 512
    """llamacpp, transformers: tokens of a prompt that are computed at once."""
    batch: int = BATCHED_TOKENS
    """vllm: tokens of one engine step."""
    eager: bool = False
    """vllm: without CUDA graphs."""
    cache_bytes: int = 2
    """vllm: bytes of one value in the cache, 1 for fp8."""
    lora_slots: int = 0
    """vllm: adapters of one batch, reserved at the start."""
    lora_rank: int = RANK
    split: int = 1
    """vllm: cards it is spread over; the estimate is for one of them."""


def weights_path(name: str, model: Model, settings: Settings) -> Path:
    """Where the model's files are; raises WeightsError for one that runs elsewhere."""
    if (where := ELSEWHERE.get(model.engine)) is not None:
        raise WeightsError(f"{name} runs in {where}: the hub holds no memory for it.")
    named = (model.file if model.engine == "llamacpp" else model.weights) or ""
    path = settings.folder / "models" / Path(named).expanduser()
    if not path.exists() and (cached := hub_folder(named)) is not None:
        return cached
    if not path.exists():
        raise WeightsError(
            f"The files of {name} are not on this machine: {path} is missing. `aihub models"
            " --fetch` makes the embedded ones; others are put there by hand."
        )
    return path


def load_of(model: Model, settings: Settings, *, lenient: bool = False) -> Load:
    """The load that a catalog entry asks for. Raises WeightsError, also for unreadable adapters.

    `lenient`: those count nothing, for an engine that does without them.
    """
    folder = settings.folder / "models"
    first = list(model.adapters.values())[: model.loaded_adapters]
    paths = [folder / Path(path).expanduser() for path in first]
    if model.engine == "llamacpp":
        return Load(
            engine="llamacpp",
            device="cpu",
            context=model.context,
            parallel=model.parallel,
            embedding=model.kind == "embedding",
            step=max(PREFILL_STEP, model.parallel),
            adapters=sum(adapter_bytes(path, lenient=lenient) for path in paths),
        )
    if model.engine == "transformers":
        device = device_of(model, settings)
        return Load(
            engine="transformers",
            device=device,
            step=PROMPT_PIECE[device],
            context=model.context,
            parallel=model.parallel,
            embedding=model.kind == "embedding",
            dtype=model.dtype,
            adapters=sum(adapter_bytes(path, lenient=lenient) for path in paths),
        )
    if model.engine != "vllm":
        raise WeightsError(f"How much the engine {model.engine} holds is not known.")
    rank = adapter_rank(model)
    eager = "--enforce-eager" in model.arguments
    narrow = (flag(model.arguments, "--kv-cache-dtype") or "").startswith("fp8")
    device = device_of(model, settings)
    return Load(
        engine="vllm",
        device=device,
        context=model.context,
        parallel=model.parallel,
        embedding=model.kind == "embedding",
        dtype=model.dtype,
        batch=tokens(flag(model.arguments, "--max-num-batched-tokens")),
        eager=eager,
        cache_bytes=1 if narrow else 2,
        lora_slots=lora_slots(model.max_loras, on_cpu=device == "cpu") if rank else 0,
        lora_rank=rank or RANK,
        split=model.tensor_parallel,
    )


def device_of(model: Model, settings: Settings) -> Device:
    """What its lane's workers load it on, where the settings say it; else by the lane's name."""
    kinds = {name.partition(":")[0] for name in settings.devices}
    if model.lane == settings.lane and len(kinds) == 1:
        return "cpu" if kinds == {"cpu"} else "cuda"
    return "cpu" if model.lane == "cpu" else "cuda"


def adapter_bytes(path: Path, *, lenient: bool) -> int:
    try:
        return read_adapter(path)
    except WeightsError:
        if not lenient:
            raise
        return 0


def hub_folder(name: str) -> Path | None:
    """The newest snapshot of a Hugging Face id in the cache of this account, None: none."""
    cache = Path.home() / ".cache" / "huggingface" / "hub" / f"models--{name.replace('/', '--')}"
    snapshots = [path for path in cache.glob("snapshots/*") if (path / "config.json").exists()]
    return max(snapshots, key=lambda path: path.stat().st_mtime, default=None)


def tokens(text: str | None) -> int:
    """A number as vLLM reads it: `8192`, `8k` (8,000) or `8K` (8,192)."""
    if text is None:
        return BATCHED_TOKENS
    number, unit = (text[:-1], text[-1]) if text[-1:] in ("k", "K") else (text, "")
    if not number.isdecimal():
        raise WeightsError(f"--max-num-batched-tokens: {text!r} is not a number of tokens.")
    return int(number) * {"": 1, "k": 1000, "K": 1024}[unit]


def flag(arguments: tuple[str, ...], name: str) -> str | None:
    """The value of `--name value` or `--name=value`."""
    for at, argument in enumerate(arguments):
        key, equals, value = argument.partition("=")
        if key.replace("_", "-") == name:
            return value if equals else next(iter(arguments[at + 1 :]), None)
    return None
