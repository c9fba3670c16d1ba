"""vLLM's command line and environment, from the settings and the reservation. Pure."""

from __future__ import annotations

from pathlib import Path

from shared.settings import Model
from shared.vllm import adapter_rank, lora_slots
from worker.engines.base import Reservation

STEP = 10_000
"""vLLM is told its share of a device in ten-thousandths."""


def utilisation(reservation: Reservation) -> float:
    """The share of the device that vLLM may count as its own, never more than was reserved.

    vLLM refuses to start where less than this share is free; the KV cache is given in bytes.
    Raises ValueError for a reservation that cannot be.
    """
    if not 0 < reservation.kv < reservation.granted <= reservation.total:
        raise ValueError(
            f"{reservation.kv} bytes of KV cache in {reservation.granted} reserved bytes"
            f" of a device of {reservation.total} cannot be"
        )
    return max(1, reservation.granted * STEP // reservation.total) / STEP


def weights(model: Model, models: Path) -> str:
    """A folder's path where there is one, below `models` or anywhere, else the Hugging Face id."""
    folder = models / Path(model.weights or "").expanduser()
    return str(folder) if folder.is_dir() else model.weights or ""


def command(
    name: str, model: Model, source: str, socket: Path, reservation: Reservation
) -> list[str]:
    """What starts the server; `source` is what `weights` gave."""
    on_cpu = not reservation.device
    rank = adapter_rank(model)
    argv = [
        *(model.python or "", "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", source, "--served-model-name", name, "--uds", str(socket)),
        *("--kv-cache-memory-bytes", str(reservation.kv)),
        *("--gpu-memory-utilization", f"{utilisation(reservation):.4f}"),
        *("--max-model-len", str(model.context), "--max-num-seqs", str(model.parallel)),
        *("--dtype", "float32" if on_cpu and model.dtype == "auto" else model.dtype),
        *("--enable-prompt-tokens-details", "--disable-uvicorn-access-log"),
        *(("--enforce-eager",) if on_cpu else ("--enable-sleep-mode",)),
    ]
    if model.quantization is not None:
        argv += ["--quantization", model.quantization]
    if model.tensor_parallel > 1:
        argv += ["--tensor-parallel-size", str(model.tensor_parallel)]
    if model.tool_parser is not None:
        argv += ["--enable-auto-tool-choice", "--tool-call-parser", model.tool_parser]
    if rank is not None:
        slots = lora_slots(model.max_loras, on_cpu=on_cpu)
        loaded = model.loaded_adapters + on_cpu
        argv += ["--enable-lora", "--max-lora-rank", str(rank)]
        argv += ["--max-loras", str(slots), "--max-cpu-loras", str(max(slots, loaded))]
    return [*argv, *model.arguments]


def environment(
    model: Model, source: str, folder: Path, reservation: Reservation, cores: int
) -> dict[str, str]:
    """What the server is told besides; `folder` takes the sockets between its processes."""
    told = {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_RPC_BASE_PATH": str(folder),
        # Our own packages are nothing to an interpreter of another environment.
        "PYTHONPATH": "",
        "OMP_WAIT_POLICY": "passive",
    }
    if Path(source).is_absolute():
        told["HF_HUB_OFFLINE"] = "1"
    if adapter_rank(model) is not None:
        told["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
    if reservation.device:
        told["CUDA_VISIBLE_DEVICES"] = reservation.device
        # The endpoints of sleep mode are among those for developers.
        told["VLLM_SERVER_DEV_MODE"] = "1"
    else:
        # vLLM would bind every engine to the same cores.
        told["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        told["OMP_NUM_THREADS"] = str(model.threads or max(1, cores // 2))
    return told
