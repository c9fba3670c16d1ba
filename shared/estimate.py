"""The bytes a model will hold on its device, from its shape and how it is run. Pure.

The formula and what it was checked against: docs/residency-formula.md.
"""

from __future__ import annotations

import msgspec

from shared.load import Load
from shared.weights import Layer, Shape, Weights
from shared.weights.safetensors import WIDTHS

MIB = 1 << 20
UBATCH = 512
"""llama.cpp: tokens it computes at once, at least, of an embedding model."""
CELLS = 256
"""llama.cpp: its cache is a multiple of this many tokens."""
PROMPT_CACHE = 64 * MIB
"""llama.cpp, as our child starts it: host memory for prompts that left their slot."""
CHECKPOINTS = 4
"""llama.cpp, as our child starts it: copies of a sliding window kept for each slot."""
LLAMACPP_PROCESS = 34 * MIB
"""Measured: the child without any model."""
VOCABULARY = 14
"""Measured: bytes in memory for each byte of a GGUF header."""
BLOCK = 16
"""vLLM: tokens in one block of its cache."""
CONTEXT = {"llamacpp": 512 * MIB, "vllm": 768 * MIB, "transformers": 640 * MIB}
"""The CUDA context with the workspaces of the libraries, and the runtime's own buffers."""
PROCESS = {"llamacpp": LLAMACPP_PROCESS, "vllm": 2048 * MIB, "transformers": 420 * MIB}
"""The engine's processes on a CPU, measured with SmolLM2."""
GRAPHS = 16 * MIB
"""vLLM: CUDA graphs, by layer."""
LOGIT_COPIES = {"vllm": 3, "transformers": 2}
"""32-bit copies of the logits that a sampler makes."""
ROUNDING = 0.01
"""What allocators add to weights and cache, whose sizes are exact."""
MARGIN = {"llamacpp": 0.01, "vllm": 0.25, "transformers": 0.25}
"""Over the other terms, as a share of them; llama.cpp's were measured, the others' were not."""
FLOATS = frozenset(("F64", "F32", "F16", "BF16"))
TYPE_NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes on one device, term by term. `device` and `engine` say which formula it was."""

    engine: str
    device: str
    context: int
    parallel: int
    weights: int
    kv_cache: int
    activations: int
    """Buffers of one step."""
    logits: int
    runtime: int
    """The process itself, or the CUDA context, with graphs and workspaces."""
    vocabulary: int = 0
    prompt_cache: int = 0
    """Prompts and window copies that an engine keeps beside its cache."""
    adapters: int = 0
    margin: int = 0
    filling: int = 0
    """How much of the total is only taken once requests need it, not by the load itself."""
    notes: tuple[str, ...] = ()

    @property
    def terms(self) -> dict[str, int]:
        """Every term; their sum is the total."""
        return {
            "weights": self.weights,
            "kv_cache": self.kv_cache,
            "activations": self.activations,
            "logits": self.logits,
            "vocabulary": self.vocabulary,
            "prompt_cache": self.prompt_cache,
            "adapters": self.adapters,
            "runtime": self.runtime,
            "margin": self.margin,
        }

    @property
    def total(self) -> int:
        return sum(self.terms.values())


def estimate(weights: Weights, load: Load) -> Estimate:
    """What the load will hold once everything it may use is used."""
    formula = {"llamacpp": llamacpp, "vllm": vllm, "transformers": transformers}[load.engine]
    found = formula(weights, load)
    exact = found.weights + found.kv_cache + found.adapters
    margin = int(exact * ROUNDING + (found.total - exact) * MARGIN[load.engine])
    return msgspec.structs.replace(
        found,
        margin=margin,
        filling=found.filling + margin if found.filling else 0,
        notes=(*weights.notes, *found.notes),
    )


def llamacpp(weights: Weights, load: Load) -> Estimate:
    shape = weights.shape
    cells = padded(load.context, CELLS)
    ahead = max(load.context, UBATCH) if load.embedding else load.step
    step = min(ahead, cells * load.parallel)
    kept = [(layer, min(cells, reach(layer, step, cells))) for layer in shape.layers]
    spans = {span for layer, span in kept if layer.values} or {step}
    rows = step if load.embedding else load.parallel
    activations = step * (4 * widest(shape) + 2 * sum(spans))
    logits = rows * (shape.vocabulary + shape.hidden) * 4
    prompts = 0 if load.embedding else PROMPT_CACHE + load.parallel * checkpoints(shape, load)
    on_cpu = load.device == "cpu"
    return Estimate(
        engine=load.engine,
        device=load.device,
        context=load.context,
        parallel=load.parallel,
        weights=weights.bytes,
        kv_cache=2 * load.parallel * sum(layer.values * span for layer, span in kept),
        activations=activations,
        logits=logits,
        runtime=(PROCESS if on_cpu else CONTEXT)["llamacpp"],
        vocabulary=VOCABULARY * weights.header if on_cpu else 0,
        prompt_cache=prompts if on_cpu else 0,
        adapters=load.adapters,
        filling=activations + logits + prompts if on_cpu else 0,
    )


def reach(layer: Layer, step: int, cells: int) -> int:
    return cells if layer.window is None else padded(layer.window + step, CELLS)


def checkpoints(shape: Shape, load: Load) -> int:
    """Bytes of the window copies of one slot."""
    windows = (
        min(layer.window, load.context) * layer.values
        for layer in shape.layers
        if layer.window is not None
    )
    return CHECKPOINTS * 2 * sum(windows)


def widest(shape: Shape) -> int:
    """Values per token that live at once in the largest part of a layer, as ggml lays them out."""
    feed_forward = (3 if shape.gated else 1) * shape.feed_forward + 5 * shape.hidden
    return max(feed_forward, 3 * shape.query + shape.hidden)


def vllm(weights: Weights, load: Load) -> Estimate:
    shape, width = weights.shape, compute_width(weights, load)
    cache = load.cache_bytes if load.cache_bytes == 1 else width
    values = sum(layer.values * blocks(layer, load) for layer in shape.layers)
    graphs = 0 if load.eager or load.device == "cpu" else GRAPHS * len(shape.layers)
    notes = () if load.device == "cpu" else (UNCHECKED,)
    return Estimate(
        engine=load.engine,
        device=load.device,
        context=load.context,
        parallel=load.parallel,
        weights=shared(loaded(weights, load, width), load),
        kv_cache=shared(cache * load.parallel * values, load),
        activations=shared(load.batch * per_token(shape) * width, load),
        logits=load.parallel * shape.vocabulary * 4 * LOGIT_COPIES["vllm"],
        runtime=(PROCESS if load.device == "cpu" else CONTEXT)["vllm"] + graphs,
        adapters=shared(load.lora_slots * slot(shape, load.lora_rank) * width, load),
        notes=notes,
    )


def blocks(layer: Layer, load: Load) -> int:
    """Tokens of one request that a layer has room for, in whole blocks."""
    if layer.window is None:
        return padded(load.context, BLOCK)
    return padded(min(load.context, layer.window - 1 + load.batch), BLOCK) + BLOCK


def transformers(weights: Weights, load: Load) -> Estimate:
    shape, width = weights.shape, compute_width(weights, load)
    values = sum(layer.whole or layer.values for layer in shape.layers)
    cache = 0 if load.embedding else width * load.parallel * load.context * values
    activations = width * per_token(shape) * min(load.context, load.step)
    if load.embedding:
        activations = width * per_token(shape) * load.context * load.parallel
    elif any((layer.whole or layer.values) < 2 * shape.query for layer in shape.layers):
        # Attention repeats shared heads, one layer at a time.
        activations += 2 * width * load.parallel * load.context * shape.query
    logits = load.parallel * shape.vocabulary * 4 * LOGIT_COPIES["transformers"]
    return Estimate(
        engine=load.engine,
        device=load.device,
        context=load.context,
        parallel=load.parallel,
        weights=loaded(weights, load, width),
        kv_cache=cache,
        activations=activations,
        logits=logits,
        runtime=(PROCESS if load.device == "cpu" else CONTEXT)["transformers"],
        adapters=load.adapters,
        filling=cache + activations + logits,
        notes=() if load.device == "cpu" else (UNCHECKED,),
    )


UNCHECKED = "The terms beside weights and cache are by formula until a first load was measured."


def per_token(shape: Shape) -> int:
    """Values per token that live at once in a torch layer."""
    feed_forward = (3 if shape.gated else 2) * shape.feed_forward
    kept = max((layer.whole or layer.values for layer in shape.layers), default=0)
    return 3 * shape.hidden + max(feed_forward, 2 * shape.query + 2 * kept)


def slot(shape: Shape, rank: int) -> int:
    """Values that vLLM reserves for one adapter: a pair of matrices beside every projection."""
    hidden, wide, query = shape.hidden, shape.feed_forward, shape.query
    return rank * sum(
        (3 * hidden + query + layer.values)
        + (query + hidden)
        + (2 * hidden + 2 * wide)
        + (wide + hidden)
        for layer in shape.layers
    )


def compute_width(weights: Weights, load: Load) -> int:
    """Bytes of one value in activations and cache."""
    if load.dtype != "auto":
        return int(WIDTHS[TYPE_NAMES[load.dtype]])
    if load.device == "cpu":
        return 4
    floats = [stored for stored in weights.stored if stored.type in FLOATS]
    if load.engine == "vllm" or not floats:
        return 2
    return int(WIDTHS[floats[0].type])


def loaded(weights: Weights, load: Load, width: int) -> int:
    """Bytes of the weights in memory: floating point takes the asked type, the rest stays."""
    convert = load.dtype != "auto" or load.device == "cpu" or load.engine == "vllm"
    return sum(
        stored.values * width if convert and stored.type in FLOATS else stored.bytes
        for stored in weights.stored
    )


def shared(size: int, load: Load) -> int:
    """The part of one card, rounded up."""
    return -(-size // load.split)


def padded(size: int, unit: int) -> int:
    return -(-size // unit) * unit
