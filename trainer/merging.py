"""`python -m trainer.merging KIND ADAPTER BASE TARGET` merges an adapter into its base.

KIND is q8_0 or f16, from and to a GGUF file, or safetensors, from and to a Hugging Face folder.
TARGET appears whole or not at all; status 1: the last line of standard error says why not. It is a
process of its own because it computes for seconds.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import msgspec

from shared.adapter_gguf import Unfit
from shared.lifeline import die_with_parent
from trainer import merged_folder, merged_gguf

KINDS = ("q8_0", "f16", "safetensors")


def merge(kind: str, adapter: Path, base: Path, target: Path) -> None:
    """Raises Unfit, OSError and msgspec.MsgspecError."""
    part = target.with_name(f"{target.name}.part")
    clear(part)
    try:
        match kind:
            case "safetensors":
                merged_folder.merge(adapter, base, part)
            case "q8_0" | "f16":
                merged_gguf.merge(adapter, base, part, kind)
            case _:
                raise Unfit(f"{kind} is none of {', '.join(KINDS)}: nothing is merged to 4 bits")
        part.rename(target)
    finally:
        clear(part)


def clear(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def main(argv: list[str]) -> None:
    die_with_parent(os.getppid())
    if len(argv) != 5:
        raise SystemExit("usage: python -m trainer.merging KIND ADAPTER BASE TARGET")
    try:
        merge(argv[1], *(Path(name) for name in argv[2:]))
    except OSError as error:
        raise SystemExit(f"{Path(str(error.filename)).name}: {error.strerror}") from error
    except (Unfit, ValueError, msgspec.MsgspecError) as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main(sys.argv)
