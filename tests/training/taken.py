"""A tuned model's exports over the wire, and what they must be."""

from __future__ import annotations

import io
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize
from openai import OpenAI

from shared.adapter_gguf import Base
from tests.vllm import place
from trainer.delta import Delta

PEFT_OF = Path(__file__).with_name("peft_of.py")
WITHIN = 240.0


def exported(sdk: OpenAI, model: str, format_: str) -> bytes:
    """The file that comes of an export, read as files are."""
    sdk = sdk.with_options(base_url=str(sdk.base_url).replace("/v1/", "/api/v1/"))
    path = "/fine_tuning/exports"
    body = {"model": model, "format": format_}
    made: Any = sdk.post(path, body=body, cast_to=object)
    deadline = time.monotonic() + WITHIN
    while made["status"] in ("queued", "running"):
        assert time.monotonic() < deadline, made
        time.sleep(0.05)
        made = sdk.get(f"{path}/{made['id']}", cast_to=object)
    assert made["status"] == "succeeded", made
    assert sdk.files.retrieve(made["file_id"]).purpose == "fine-tune-results"
    data = sdk.files.content(made["file_id"]).read()
    assert len(data) == made["bytes"]
    return data


def unpacked(data: bytes, target: Path) -> Path:
    """The one folder of a tar."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        tar.extractall(target, filter="data")
    (folder,) = target.iterdir()
    return folder


def check_folders(sdk: OpenAI, model: str, base: Path, target: Path) -> None:
    """peft loads the adapter, transformers the merged folder, and both are the same model."""
    adapter = unpacked(exported(sdk, model, "adapter"), target / "adapter")
    merged = unpacked(exported(sdk, model, "safetensors"), target / "merged")
    argv = [place.python(), PEFT_OF, base, adapter, merged, "What lives in box 3?"]
    said = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=240).stdout
    apart, changed = (float(number) for number in said.split())
    print(f"logits of the merged folder are off by {apart:.1e}, of the base by {changed:.1e}")
    assert apart < 1e-3 < 0.05 < changed


def check_gguf(sdk: OpenAI, model: str, home: Path, target: Path) -> None:
    """Each adapted matrix of the file is the base's with the adapter's change."""
    whole = target / "whole.gguf"
    whole.write_bytes(exported(sdk, model, "gguf"))
    (base,) = (home / "models").glob("smollm2*.gguf")
    (adapter,) = (path.parent for path in (home / "tuned").glob("*/adapter.gguf"))
    known, delta = Base(base), Delta(adapter)
    before = {tensor.name: tensor for tensor in GGUFReader(base).tensors}
    after = {tensor.name: tensor for tensor in GGUFReader(whole).tensors}
    assert before.keys() == after.keys()
    for module in sorted(delta.modules)[::40]:
        name = known.name(module)
        there = dequantize(before[name].data, before[name].tensor_type)
        wanted = there + known.ordered(name, delta.of(module))
        found = dequantize(after[name].data, after[name].tensor_type)
        assert np.abs(found - wanted).max() < 0.02 * np.abs(wanted).max(), name
        assert np.abs(found - there).max() > 0, name


def until_freed(sdk: OpenAI, model: str, home: Path) -> None:
    """Neither the engine nor the disk has it any more."""
    sdk = sdk.with_options(base_url=str(sdk.base_url).replace("/v1/", "/api/v1/"))
    deadline = time.monotonic() + WITHIN
    while True:
        found: Any = sdk.get("/models/status", cast_to=object)
        models = [model for worker in found["workers"] for model in worker["models"]]
        held = {name for model in models for name in model["adapters"]}
        folders = {path.name for path in (home / "tuned").iterdir() if "-step-" not in path.name}
        if not folders and f"{model}@1" not in held:
            return
        assert time.monotonic() < deadline, (held, folders)
        time.sleep(0.05)
