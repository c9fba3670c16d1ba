"""The process around one llama.cpp model: `python -m worker.engines.llamacpp_child OPTIONS`.

OPTIONS is the JSON of `Options`. It answers the OpenAI wire on a unix socket and dies with its
parent. On standard output it prints `reading N` before it reads the weights, with N the bytes of
files that it has resident until then, and `ready` when it answers.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import msgspec

from shared.lifeline import die_with_parent
from worker.engines.progress import file_bytes

READING = "reading "
READY = "ready"
CHECKPOINTS = 4
"""Copies of a sliding window that one slot keeps; llama.cpp's own default is 32, several GB."""
PREFILL_STEP = 64
"""Prompt tokens read between two tokens of the other clients' answers.

Measured with SmolLM2-135M on one thread of a busy machine, a prompt of 1,230 tokens: longest gap
in a stream beside it, and time of the prompt alone, for steps of 512 (8.0 s, 13.5 s), 256 (2.4 s,
13.8 s), 128 (4.0 s, 10.7 s), 64 (1.9 s, 13.0 s) and 32 (0.5 s, 20.2 s); llama.cpp's own 2048
stops the stream for 21 s at a prompt of 3,480 tokens.
"""


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the child is told. `parent` is the pid that must live on for it to live."""

    file: str
    socket: str
    parent: int
    context: int
    """Tokens per slot."""
    parallel: int
    threads: int
    embedding: bool
    prompt_cache: int
    """MiB of host memory for prompts that left their slot."""
    adapters: list[str] = []
    """GGUF files of LoRA adapters; a request names one by its place in this list."""


def serve(options: Options) -> object:
    """Load the model and listen; returns the server, which lives as long as it is referenced."""
    import xllamacpp  # type: ignore[import-untyped]

    params = xllamacpp.CommonParams()
    params.model.path = options.file
    params.hostnames = [options.socket]
    params.n_parallel = options.parallel
    params.n_ctx = options.context * options.parallel
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    params.cache_ram_mib = options.prompt_cache
    params.n_ctx_checkpoints = CHECKPOINTS
    params.n_threads_http = options.parallel + 8
    params.ui = False
    params.fit_params = False
    params.endpoint_props = False
    # Nobody gets an adapter unasked: each has scale 0 until a request gives it another.
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(file, 0.0) for file in options.adapters]
    if options.embedding:
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        params.n_batch = params.n_ubatch = max(options.context, 512)
    else:
        params.n_batch = params.n_ubatch = max(PREFILL_STEP, options.parallel)
    print(f"{READING}{file_bytes()}", flush=True)
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        raise SystemExit(f"the model cannot be loaded: {error}") from error


def main(argv: list[str]) -> None:
    options = msgspec.json.decode(argv[1], type=Options)
    die_with_parent(options.parent)
    Path(options.socket).unlink(missing_ok=True)
    server = serve(options)
    print(READY, flush=True)
    while server is not None:
        signal.pause()


if __name__ == "__main__":
    main(sys.argv)
