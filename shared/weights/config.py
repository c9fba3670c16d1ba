"""The config.json of a Hugging Face folder, read for its widths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from shared.weights.shape import Layer, Shape, WeightsError

ENCODERS = frozenset(
    ("bert", "roberta", "xlm-roberta", "camembert", "electra", "mpnet", "modernbert", "nomic_bert")
)
"""They read all tokens at once and keep no cache."""
ALL_LAYERS_SLIDE = frozenset(("mistral", "mixtral", "phi3", "starcoder2"))
PATTERNS = {"gemma3": 6, "gemma3_text": 6, "cohere2": 4}
"""One layer in so many looks at everything."""
OTHER_MEMORY = (
    "mamba_d_state",
    "ssm_state_size",
    "state_size",
    "layers_block_type",
    "hybrid_override_pattern",
    "linear_num_key_heads",
    "rwkv",
    "attention_chunk_size",
    "block_configs",
)
"""Keys of models whose memory is not, or not only, a cache of keys and values."""

PerLayer = int | list[int] | None


class Config(msgspec.Struct, kw_only=True):
    """The keys that are read; absent ones are None."""

    model_type: str = ""
    architectures: list[str] | None = None
    hidden_size: int | None = None
    intermediate_size: int | list[int] | None = None
    num_hidden_layers: int | None = None
    num_attention_heads: int | None = None
    num_key_value_heads: PerLayer = None
    head_dim: PerLayer = None
    vocab_size: int | None = None
    max_position_embeddings: int | None = None
    tie_word_embeddings: bool | None = None
    attention_bias: bool | None = None
    mlp_bias: bool | None = None
    sliding_window: int | None = None
    sliding_window_pattern: int | None = None
    layer_types: list[str] | None = None
    use_sliding_window: bool | None = None
    max_window_layers: int | None = None
    kv_lora_rank: int | None = None
    qk_rope_head_dim: int | None = None
    qk_nope_head_dim: int | None = None
    v_head_dim: int | None = None
    is_encoder_decoder: bool = False
    torch_dtype: str | None = None
    dtype: str | None = None
    quantization_config: dict[str, Any] | None = None
    composite: bool = False
    """Whether it is the text part of a model that has others, such as a vision tower."""

    @property
    def type(self) -> str | None:
        """The floating point type of the weights, if it is named."""
        return self.dtype or self.torch_dtype

    @property
    def family(self) -> str:
        return self.model_type or (self.architectures or ["unknown"])[0]

    def need(self, *names: str) -> tuple[int, ...]:
        """The values of whole-number keys; raises WeightsError naming those that are absent."""
        values = {name: getattr(self, name) for name in names}
        absent = [name for name, value in values.items() if not isinstance(value, int)]
        if absent:
            raise WeightsError(
                f"The config.json of this {self.family} model lacks {', '.join(absent)}:"
                " its memory cannot be estimated."
            )
        return tuple(values.values())


def read(path: Path) -> Config:
    """The text model's part of a config.json; raises WeightsError."""
    try:
        raw = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise WeightsError(f"{path.name} is not JSON: {error}.") from error
    text = raw.get("text_config")
    inner = text if isinstance(text, dict) else raw
    other = [key for key in OTHER_MEMORY if inner.get(key) is not None]
    if other:
        raise WeightsError(
            f"{path.name} has {other[0]}: this model keeps more than keys and values, and how"
            " much is not known."
        )
    # The outer part names what holds for the whole: types, quantisation.
    kept = ("torch_dtype", "dtype", "quantization_config", "architectures", "model_type")
    merged = {key: raw[key] for key in kept if key in raw}
    merged |= {key: value for key, value in inner.items() if value is not None}
    merged["composite"] = inner is not raw
    try:
        return msgspec.convert(merged, Config)
    except msgspec.ValidationError as error:
        raise WeightsError(f"{path.name} is unusual: {error}.") from error


def shape(config: Config) -> tuple[Shape, tuple[str, ...]]:
    """The widths, and what had to be assumed for them. Raises WeightsError."""
    if config.is_encoder_decoder:
        raise WeightsError("Encoder-decoder models are not understood.")
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    hidden, layers, heads, vocabulary = config.need(*names)
    (context,) = config.need("max_position_embeddings")
    wide = config.intermediate_size
    if wide is None:
        config.need("intermediate_size")
    widths = each(config.head_dim, layers, "head_dim") or [hidden // heads] * layers
    kept, notes = cache(config, widths)
    encoder = config.model_type in ENCODERS
    found = Shape(
        architecture=config.family,
        layers=kept,
        hidden=hidden,
        feed_forward=max(wide) if isinstance(wide, list) else wide or 0,
        gated=not encoder,
        query=heads * max(query_widths(config, widths)),
        vocabulary=vocabulary,
        context=context,
    )
    return found, notes


def query_widths(config: Config, widths: list[int]) -> list[int]:
    if config.kv_lora_rank is None:
        return widths
    return [sum(config.need("qk_nope_head_dim", "qk_rope_head_dim"))]


def cache(config: Config, widths: list[int]) -> tuple[tuple[Layer, ...], tuple[str, ...]]:
    layers, heads = len(widths), config.need("num_attention_heads")[0]
    if config.model_type in ENCODERS:
        return (Layer(0),) * layers, ()
    slides, notes = windows(config, layers)
    if config.kv_lora_rank is not None:
        rope, nope, value = config.need("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim")
        whole = heads * (nope + rope + value)
        values = config.kv_lora_rank + rope
        return tuple(Layer(values, window, whole) for window in slides), notes
    shared = each(config.num_key_value_heads, layers, "num_key_value_heads") or [heads] * layers
    kept = zip(shared, widths, slides, strict=True)
    return tuple(Layer(2 * count * width, window) for count, width, window in kept), notes


def each(value: PerLayer, layers: int, name: str) -> list[int] | None:
    """One value per layer; raises WeightsError when a list has another length."""
    if value is None or isinstance(value, int):
        return None if value is None else [value] * layers
    if len(value) != layers:
        raise WeightsError(f"{name} has {len(value)} entries for {layers} layers.")
    return value


def windows(config: Config, layers: int) -> tuple[Sequence[int | None], tuple[str, ...]]:
    """How far each layer looks back."""
    window = config.sliding_window
    if config.layer_types is not None:
        return listed(config, layers), ()
    if window is None:
        return [None] * layers, ()
    if config.model_type.startswith(("qwen2", "qwen3")):
        first = config.max_window_layers or 0 if config.use_sliding_window else layers
        return [window if at >= first else None for at in range(layers)], ()
    if config.model_type == "gemma2":
        return [None if at % 2 else window for at in range(layers)], ()
    if config.model_type in PATTERNS:
        every = config.sliding_window_pattern or PATTERNS[config.model_type]
        return [window if (at + 1) % every else None for at in range(layers)], ()
    if config.model_type in ALL_LAYERS_SLIDE:
        return [window] * layers, ()
    note = f"Which layers of {config.family} have a sliding window is not known: all were counted"
    return [None] * layers, (f"{note} whole, the most it can be.",)


def listed(config: Config, layers: int) -> list[int | None]:
    types = config.layer_types or []
    strange = sorted(set(types) - {"full_attention", "sliding_attention"})
    if strange:
        raise WeightsError(f"Layers of the type {strange[0]} are not understood.")
    if len(types) != layers:
        raise WeightsError(f"layer_types has {len(types)} entries for {layers} layers.")
    if "sliding_attention" in types:
        config.need("sliding_window")
    return [config.sliding_window if kind == "sliding_attention" else None for kind in types]
