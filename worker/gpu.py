"""The GPUs of this machine, by NVML. `python -m worker.gpu` prints one JSON line each."""

from __future__ import annotations

import sys

import msgspec
import pynvml  # type: ignore[import-untyped]


class NoDriver(Exception):
    """NVML does not answer: no driver, no library, or no GPU. The message is NVML's own."""


class Device(msgspec.Struct, frozen=True):
    index: int
    name: str
    total: int
    """Bytes of memory."""
    used: int
    """Bytes in use, by anyone."""
    driver: str


def devices() -> list[Device]:
    """Every NVIDIA GPU; raises NoDriver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NoDriver(str(error)) from error
    try:
        driver = pynvml.nvmlSystemGetDriverVersion()
        return [describe(index, driver) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        raise NoDriver(str(error)) from error
    finally:
        pynvml.nvmlShutdown()


def describe(index: int, driver: str) -> Device:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    name = pynvml.nvmlDeviceGetName(handle)
    return Device(index, name, int(memory.total), int(memory.used), driver)


def main() -> int:
    """Exit status 3 when there is no driver; NVML's reason is on standard error."""
    try:
        found = devices()
    except NoDriver as error:
        sys.stderr.write(f"{error}\n")
        return 3
    for device in found:
        sys.stdout.write(msgspec.json.encode(device).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
