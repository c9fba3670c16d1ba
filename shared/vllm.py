"""What vLLM's command line allows."""

from __future__ import annotations

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes for --max-lora-rank."""
OURS = frozenset(
    (
        *("--uds", "--host", "--port", "--api-key", "--root-path", "--model", "--config"),
        *("--served-model-name", "--kv-cache-memory-bytes", "--gpu-memory-utilization"),
        *("--max-model-len", "--max-num-seqs", "--dtype", "--quantization", "--enable-lora"),
        *("--max-loras", "--max-lora-rank", "--tensor-parallel-size", "--tool-call-parser"),
        *("--enable-sleep-mode", "--lora-modules", "--headless", "--runner"),
    )
)
"""Flags that follow from the other settings."""
