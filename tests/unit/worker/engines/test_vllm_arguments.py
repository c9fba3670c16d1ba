from __future__ import annotations

from pathlib import Path

import pytest

from shared.settings import Model
from worker.engines.base import Reservation
from worker.engines.vllm_arguments import adapter_rank, command, environment, utilisation, weights

GIB = 1 << 30
SOCKET = Path("/run/hub/api")


def model(**changes: object) -> Model:
    given = {"engine": "vllm", "weights": "org/name", "python": "/opt/vllm/bin/python"}
    return Model(**{**given, **changes})  # type: ignore[arg-type]


def flags(argv: list[str]) -> dict[str, str]:
    """Flag and what stands behind it."""
    return dict(zip(argv, [*argv[1:], ""], strict=True))


@pytest.mark.parametrize(
    ("total", "granted", "share"),
    [
        (16 * GIB, 8 * GIB, 0.5),
        (16 * GIB, 16 * GIB, 1.0),
        (3, 2, 0.6666),
        (80 * GIB, 1 << 20, 0.0001),
        (16_376 * (1 << 20), 6_000 * (1 << 20), 0.3663),
    ],
)
def test_the_share_is_never_more_than_reserved(total: int, granted: int, share: float) -> None:
    given = utilisation(Reservation(total=total, granted=granted, kv=1))
    assert given == share
    assert given * total <= granted or given == 0.0001


@pytest.mark.parametrize(
    ("total", "granted", "kv"), [(10, 11, 5), (10, 8, 8), (10, 8, 9), (10, 8, 0), (0, 0, 0)]
)
def test_a_reservation_that_cannot_be(total: int, granted: int, kv: int) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        utilisation(Reservation(total=total, granted=granted, kv=kv))


def test_on_a_gpu() -> None:
    given = Reservation(device="GPU-1f", total=16 * GIB, granted=6 * GIB, kv=2 * GIB)
    wanted = model(
        context=8192,
        parallel=16,
        dtype="bfloat16",
        quantization="fp8",
        tensor_parallel=2,
        tool_parser="hermes",
        max_lora_rank=32,
        max_loras=2,
        arguments=("--seed", "7"),
    )
    argv = command("mine", wanted, "org/name", SOCKET, given)
    assert argv[:3] == ["/opt/vllm/bin/python", "-m", "vllm.entrypoints.openai.api_server"]
    told = flags(argv)
    assert told["--model"] == "org/name"
    assert told["--served-model-name"] == "mine"
    assert told["--uds"] == str(SOCKET)
    assert told["--kv-cache-memory-bytes"] == str(2 * GIB)
    assert told["--gpu-memory-utilization"] == "0.3750"
    assert (told["--max-model-len"], told["--max-num-seqs"]) == ("8192", "16")
    assert (told["--dtype"], told["--quantization"]) == ("bfloat16", "fp8")
    assert told["--tensor-parallel-size"] == "2"
    assert told["--tool-call-parser"] == "hermes"
    assert (told["--max-lora-rank"], told["--max-loras"]) == ("32", "2")
    assert told["--max-cpu-loras"] == "16"
    assert "--enable-sleep-mode" in argv
    assert "--enforce-eager" not in argv
    assert argv[-2:] == ["--seed", "7"]
    environ = environment(wanted, "org/name", Path("/run/hub"), given, 8)
    assert environ["CUDA_VISIBLE_DEVICES"] == "GPU-1f"
    assert environ["VLLM_SERVER_DEV_MODE"] == "1"
    assert environ["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    assert environ["VLLM_RPC_BASE_PATH"] == "/run/hub"
    assert not {"HF_HUB_OFFLINE", "OMP_NUM_THREADS"} & set(environ)


def test_on_a_cpu() -> None:
    given = Reservation(total=32 * GIB, granted=4 * GIB, kv=GIB)
    argv = command("mine", model(), "/models/x", SOCKET, given)
    told = flags(argv)
    assert told["--dtype"] == "float32"
    assert "--enforce-eager" in argv
    assert not {"--enable-sleep-mode", "--enable-lora", "--quantization"} & set(argv)
    assert flags(command("m", model(dtype="bfloat16"), "x", SOCKET, given))["--dtype"] == "bfloat16"
    environ = environment(model(), "/models/x", Path("/run/hub"), given, 8)
    assert environ["OMP_WAIT_POLICY"] == "passive"
    assert environ["OMP_NUM_THREADS"] == "4"
    assert environ["HF_HUB_OFFLINE"] == "1"
    assert environment(model(threads=3), "x", SOCKET, given, 8)["OMP_NUM_THREADS"] == "3"
    assert environment(model(), "x", SOCKET, given, 1)["OMP_NUM_THREADS"] == "1"
    assert "VLLM_SERVER_DEV_MODE" not in environ
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" not in environ


@pytest.mark.parametrize(
    ("device", "max_loras", "loaded", "told"),
    [
        ("GPU-1f", 2, 16, ("2", "16")),
        ("GPU-1f", 4, 2, ("4", "4")),
        ("", 2, 16, ("3", "17")),
        ("", 4, 1, ("5", "5")),
    ],
)
def test_places_for_adapters(
    device: str, max_loras: int, loaded: int, told: tuple[str, str]
) -> None:
    given = Reservation(device=device, total=32 * GIB, granted=4 * GIB, kv=GIB)
    wanted = model(max_lora_rank=8, max_loras=max_loras, loaded_adapters=loaded)
    argv = flags(command("m", wanted, "x", SOCKET, given))
    assert (argv["--max-loras"], argv["--max-cpu-loras"]) == told


def test_adapters_that_are_listed_have_a_rank() -> None:
    assert adapter_rank(model()) is None
    assert adapter_rank(model(adapters={"a": "a"})) == 16
    assert adapter_rank(model(adapters={"a": "a"}, max_lora_rank=64)) == 64


def test_a_folder_comes_before_a_hub_id(tmp_path: Path) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert weights(model(), tmp_path) == str(tmp_path / "org" / "name")
    assert weights(model(weights=str(tmp_path)), tmp_path / "other") == str(tmp_path)
    assert weights(model(weights="org/else"), tmp_path) == "org/else"
