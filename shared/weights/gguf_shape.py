"""The widths of the model in a GGUF file."""

from __future__ import annotations

from shared.weights.gguf import Header, Value
from shared.weights.shape import Layer, Shape, WeightsError

ENCODERS = frozenset(
    (
        "bert",
        "modern-bert",
        "nomic-bert",
        "nomic-bert-moe",
        "neo-bert",
        "jina-bert-v2",
        "jina-bert-v3",
        "gemma-embedding",
    )
)
"""They read all tokens at once and keep no cache."""
PATTERNS = {"gemma2": 2, "gemma3": 6, "cohere2": 4, "gpt-oss": 2}
"""llama.cpp's own: one layer in so many, the last of each group, looks at everything."""
IGNORES_WINDOW = frozenset(("llama", "qwen2", "qwen3", "phi3", "starcoder2"))
"""llama.cpp keeps everything for these, whatever the window."""
OTHER_MEMORY = ("ssm.", "wkv", "shortconv.", "kda.", "attention.recurrent_layers")


class Keys:
    """The metadata of one architecture; raises WeightsError for what is absent or unusual."""

    def __init__(self, header: Header) -> None:
        self._header = header
        name = header.metadata.get("general.architecture")
        if not isinstance(name, str):
            raise WeightsError("The GGUF file does not name its architecture.")
        self.architecture = name

    def find(self, key: str) -> Value:
        return self._header.metadata.get(f"{self.architecture}.{key}")

    def whole(self, key: str, otherwise: int | None = None) -> int:
        value = self.find(key)
        if value is None and otherwise is not None:
            return otherwise
        if not isinstance(value, int):
            raise WeightsError(f"The GGUF file lacks {self.architecture}.{key}.")
        return value

    def largest(self, key: str) -> int:
        """A whole number, or the largest of a list by layer."""
        value = self.find(key)
        if not isinstance(value, list):
            return self.whole(key)
        return max(item for item in value if isinstance(item, int))

    def each(self, key: str, layers: int, otherwise: int | None = None) -> list[int]:
        """One whole number per layer."""
        value = self.find(key)
        if not isinstance(value, list):
            return [self.whole(key, otherwise)] * layers
        if len(value) != layers:
            raise WeightsError(f"{key} has {len(value)} entries for {layers} layers.")
        return [item for item in value if isinstance(item, int)]

    def other_memory(self) -> str | None:
        """The first key that tells of memory beside keys and values."""
        prefixes = tuple(f"{self.architecture}.{part}" for part in OTHER_MEMORY)
        return next((key for key in self._header.metadata if key.startswith(prefixes)), None)

    def vocabulary(self) -> int:
        return self._header.lengths.get("tokenizer.ggml.tokens") or self.whole("vocab_size")

    def has_gate(self) -> bool:
        return self.architecture not in ENCODERS


def shape(header: Header) -> tuple[Shape, tuple[str, ...]]:
    """The widths, and what had to be assumed for them."""
    keys = Keys(header)
    if (other := keys.other_memory()) is not None:
        raise WeightsError(f"It has {other}: this model keeps more than keys and values.")
    layers, hidden = keys.whole("block_count"), keys.whole("embedding_length")
    heads = keys.each("attention.head_count", layers)
    width = keys.whole("attention.key_length", hidden // max(1, *heads))
    kept, notes = cache(keys, heads, width)
    found = Shape(
        architecture=keys.architecture,
        layers=kept,
        hidden=hidden,
        feed_forward=keys.largest("feed_forward_length"),
        gated=keys.has_gate(),
        query=max(heads) * width,
        vocabulary=keys.vocabulary(),
        context=keys.whole("context_length"),
    )
    return found, notes


def cache(keys: Keys, heads: list[int], width: int) -> tuple[tuple[Layer, ...], tuple[str, ...]]:
    layers = len(heads)
    if keys.architecture in ENCODERS:
        return (Layer(0),) * layers, ()
    value = keys.whole("attention.value_length", width)
    shared = keys.each("attention.head_count_kv", layers, max(heads))
    slides, notes = windows(keys, layers)
    kept = zip(shared, slides, strict=True)
    return tuple(Layer(count * (width + value), window) for count, window in kept), notes


def windows(keys: Keys, layers: int) -> tuple[list[int | None], tuple[str, ...]]:
    """How far each layer looks back."""
    window = keys.find("attention.sliding_window")
    if not isinstance(window, int) or window == 0 or keys.architecture in IGNORES_WINDOW:
        return [None] * layers, ()
    listed = keys.find("attention.sliding_window_pattern")
    if isinstance(listed, list) and len(listed) == layers:
        return [window if slides else None for slides in listed], ()
    every = PATTERNS.get(keys.architecture)
    if every is None:
        note = f"Which layers of {keys.architecture} have a sliding window is not known: all were"
        return [None] * layers, (f"{note} counted whole, the most it can be.",)
    return [window if at % every < every - 1 else None for at in range(layers)], ()
