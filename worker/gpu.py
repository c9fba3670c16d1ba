"""NVML: the GPUs of this machine. `python -m worker.gpu` prints one JSON line each.

Every figure is one that NVML gives; what a card or driver does not have is None. Calls block for
about a millisecond each at most, longer when a driver is in trouble: ask from a thread.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec
import pynvml  # type: ignore[import-untyped]

from worker.device import DeviceFault, Trouble

NO_DRIVER = 3
"""Exit status of `main` where there is no NVML to ask."""
FAULT = 4
"""Exit status of `main` where NVML is there and refuses."""

T = TypeVar("T")

REASONS: dict[int, tuple[Trouble, str]] = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: (
        "no_library",
        "install the NVIDIA driver; in a container, start it with the NVIDIA runtime",
    ),
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: (
        "no_driver",
        "load the kernel module (modprobe nvidia), or install the driver again for this kernel",
    ),
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
        "driver_mismatch",
        "the driver was updated under the running kernel module: reboot",
    ),
    pynvml.NVML_ERROR_NO_PERMISSION: (
        "no_permission",
        "let this user open /dev/nvidiactl and /dev/nvidia*",
    ),
    pynvml.NVML_ERROR_GPU_IS_LOST: ("lost", "look for Xid in dmesg; reboot"),
    pynvml.NVML_ERROR_RESET_REQUIRED: ("lost", "nvidia-smi --gpu-reset, or reboot"),
    pynvml.NVML_ERROR_NOT_SUPPORTED: ("not_supported", "use another device"),
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: ("not_supported", "update the driver"),
}
MISSING = frozenset(
    {
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_NO_DATA,
    }
)
"""Answers that mean: this card or driver does not have this one figure."""


class Memory(msgspec.Struct, frozen=True):
    """Bytes. total = reserved + used + free; old drivers count `reserved` as used."""

    total: int
    used: int
    free: int
    reserved: int


class Process(msgspec.Struct, frozen=True):
    """A process with memory on the card, compute or graphics."""

    pid: int
    """As the driver numbers it, see cuda.py."""
    bytes: int | None
    """None where the driver does not say (WSL2, MIG, some virtual GPUs)."""


class Sample(msgspec.Struct, frozen=True):
    """A card at one moment."""

    at: float
    """Monotonic seconds."""
    memory: Memory
    processes: tuple[Process, ...] | None
    """None when the driver does not list them."""
    busy_percent: int | None
    memory_busy_percent: int | None
    power_mw: int | None
    power_limit_mw: int | None
    energy_mj: int | None
    """Since the driver was loaded."""
    celsius: int | None


class Description(msgspec.Struct, frozen=True):
    """What does not change while the driver is loaded."""

    index: int
    """NVML's: by PCI address. CUDA may number otherwise, so give engines the uuid."""
    name: str
    uuid: str
    pci: str
    driver: str
    cuda: str | None
    """The newest CUDA the driver runs, such as 13.0."""
    mig: bool
    """Split into instances, which the hub does not use."""


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of `main`: the card, or why it cannot be used."""

    index: int
    name: str = ""
    total: int = 0
    used: int = 0
    driver: str = ""
    uuid: str = ""
    pci: str = ""
    cuda: str | None = None
    fault: str | None = None
    mend: str | None = None


def fault(error: Any, what: str) -> DeviceFault:
    """The NVML error as the hub says it."""
    trouble, mend = REASONS.get(error.value, ("failed", "look at nvidia-smi and dmesg"))
    return DeviceFault(trouble, f"{what}: {str(error).removeprefix('NVML ')}", mend)


@contextmanager
def faults(what: str) -> Iterator[None]:
    """Inside, an NVML error is a DeviceFault."""
    try:
        yield
    except pynvml.NVMLError as error:
        raise fault(error, what) from error


def optional(call: Callable[..., T], *arguments: object) -> T | None:
    """The figure, or None where this card or driver does not have it."""
    try:
        return call(*arguments)
    except pynvml.NVMLError as error:
        if error.value in MISSING:
            return None
        raise


class Card:
    """One GPU, with NVML held open from the start to `close`. Raises DeviceFault everywhere."""

    def __init__(self, index: int) -> None:
        self.index = index
        with faults("NVML"):
            pynvml.nvmlInit()
        try:
            with faults(f"GPU {index}"):
                self._handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        except DeviceFault:
            pynvml.nvmlShutdown()
            raise

    def close(self) -> None:
        with faults("NVML"):
            pynvml.nvmlShutdown()

    def describe(self) -> Description:
        with faults(f"GPU {self.index}"):
            cuda = optional(pynvml.nvmlSystemGetCudaDriverVersion_v2)
            mig = optional(pynvml.nvmlDeviceGetMigMode, self._handle)
            return Description(
                index=self.index,
                name=pynvml.nvmlDeviceGetName(self._handle),
                uuid=pynvml.nvmlDeviceGetUUID(self._handle),
                pci=pynvml.nvmlDeviceGetPciInfo(self._handle).busId,
                driver=pynvml.nvmlSystemGetDriverVersion(),
                cuda=None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
                mig=mig is not None and mig[0] == 1,
            )

    def memory(self) -> Memory:
        """Two calls at most; `not_supported` where GPU and CPU share one memory."""
        with faults(f"GPU {self.index}, its memory"):
            read = pynvml.nvmlDeviceGetMemoryInfo
            info = optional(read, self._handle, pynvml.nvmlMemory_v2)
            if info is not None:
                return Memory(info.total, info.used, info.free, info.reserved)
            info = read(self._handle)
            return Memory(info.total, info.used, info.free, 0)

    def processes(self) -> tuple[Process, ...] | None:
        """Everybody with memory on the card; None when the driver does not list them."""
        with faults(f"GPU {self.index}, its processes"):
            compute = self._list("nvmlDeviceGetComputeRunningProcesses")
            graphics = self._list("nvmlDeviceGetGraphicsRunningProcesses")
        if compute is None:
            return None
        held: dict[int, int | None] = {}
        for process in (*compute, *(graphics or ())):
            # One that computes and draws is in both lists, with the same bytes.
            before = held.get(process.pid, 0)
            known = before is not None and process.bytes is not None
            held[process.pid] = max(before or 0, process.bytes or 0) if known else None
        return tuple(Process(pid, held[pid]) for pid in sorted(held))

    def _list(self, call: str) -> list[Process] | None:
        for version in ("_v3", "_v2"):
            found = optional(getattr(pynvml, call + version), self._handle)
            if found is not None:
                return [Process(each.pid, each.usedGpuMemory) for each in found]
        return None

    def sample(self) -> Sample:
        memory = self.memory()
        processes = self.processes()
        handle = self._handle
        with faults(f"GPU {self.index}"):
            busy = optional(pynvml.nvmlDeviceGetUtilizationRates, handle)
            return Sample(
                at=time.monotonic(),
                memory=memory,
                processes=processes,
                busy_percent=None if busy is None else int(busy.gpu),
                memory_busy_percent=None if busy is None else int(busy.memory),
                power_mw=optional(pynvml.nvmlDeviceGetPowerUsage, handle),
                power_limit_mw=optional(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle),
                energy_mj=optional(pynvml.nvmlDeviceGetTotalEnergyConsumption, handle),
                celsius=optional(
                    pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU
                ),
            )


def count() -> int:
    """How many GPUs NVML lists; raises DeviceFault."""
    with faults("NVML"):
        pynvml.nvmlInit()
    try:
        with faults("NVML"):
            return int(pynvml.nvmlDeviceGetCount())
    finally:
        pynvml.nvmlShutdown()


def line(index: int) -> Line:
    """A card's line, never an exception: one that is lost does not hide the others."""
    try:
        card = Card(index)
        try:
            told = card.describe()
            if told.mig:
                raise split(index)
            memory = card.memory()
        finally:
            card.close()
    except DeviceFault as broken:
        return Line(index, fault=str(broken), mend=broken.mend)
    return Line(
        index=index,
        name=told.name,
        total=memory.total,
        used=memory.used,
        driver=told.driver,
        uuid=told.uuid,
        pci=told.pci,
        cuda=told.cuda,
    )


def split(index: int) -> DeviceFault:
    """Why a card with MIG on is refused: its memory is that of its instances."""
    return DeviceFault(
        "mig",
        f"GPU {index} is split into MIG instances, which the hub does not use",
        f"nvidia-smi --id={index} --multi-instance-gpu=0, or use another GPU",
    )


def main() -> int:
    """Exit status 3 without library or driver, 4 when they refuse; the reason is on stderr."""
    try:
        found = count()
    except DeviceFault as broken:
        absent = broken.trouble in ("no_library", "no_driver")
        sys.stderr.write(f"{broken}\n" if absent else f"{broken}\n{broken.mend}\n")
        return NO_DRIVER if absent else FAULT
    for index in range(found):
        sys.stdout.write(msgspec.json.encode(line(index)).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
