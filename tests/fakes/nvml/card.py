"""The writer's side of nvml.c: builds the fake libnvidia-ml.so.1 and says what its cards show.

A process sees the fake when it starts with `FakeNvml.environment`: LD_LIBRARY_PATH, where the real
nvidia-ml-py finds libnvidia-ml.so.1, and FAKE_NVML, the file of the state below. Both sides map
that file, so a change is seen by the next NVML call of every process.

A process that wants to hold memory itself, without being told to anyone, writes
`FAKE_NVML.d/<device>/<its pid>`: see vram.py.
"""

from __future__ import annotations

import ctypes
import mmap
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_char, c_int32, c_uint32, c_uint64
from pathlib import Path
from typing import Literal

SOURCE = Path(__file__).with_name("nvml.c")
LIBRARY = "libnvidia-ml.so.1"
FLAGS = ["-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
MAGIC = 0x31306C6D766E6B66
DEVICES, PROCESSES, FAULTS = 8, 32, 16
GIB = 1 << 30
Kind = Literal["compute", "graphics", "both"]
KINDS: dict[Kind, int] = {"compute": 1, "graphics": 2, "both": 3}
HIDDEN, STAYS = 4, 8


class Process(ctypes.Structure):
    """`flags`: 1 compute, 2 graphics, 4 bytes not available, 8 stays whether the pid lives or not.

    `died_ns` is written by the fake: monotonic time of its first look at the dead process.
    """

    _fields_ = (
        ("pid", c_uint32),
        ("flags", c_uint32),
        ("bytes", c_uint64),
        ("linger_ms", c_uint64),
        ("died_ns", c_uint64),
    )


class Fault(ctypes.Structure):
    """`call` fails with `code` on `device` (-1: any), `times` times (-1: for ever)."""

    _fields_ = (
        ("call", c_char * 48),
        ("device", c_int32),
        ("code", c_int32),
        ("times", c_int32),
        ("unused", c_uint32),
    )


class Device(ctypes.Structure):
    """`base` is in use by no process. Energy grows with the power from `energy_since_ns` on."""

    _fields_ = (
        ("name", c_char * 96),
        ("uuid", c_char * 96),
        ("bus", c_char * 32),
        ("total", c_uint64),
        ("reserved", c_uint64),
        ("base", c_uint64),
        ("energy_mj", c_uint64),
        ("energy_since_ns", c_uint64),
        ("power_mw", c_uint32),
        ("limit_mw", c_uint32),
        ("celsius", c_uint32),
        ("busy", c_uint32),
        ("memory_busy", c_uint32),
        ("mig", c_uint32),
        ("process", Process * PROCESSES),
    )


class State(ctypes.Structure):
    """`sequence` is odd while a change is being written; `calls` counts NVML calls."""

    _fields_ = (
        ("magic", c_uint64),
        ("sequence", c_uint32),
        ("devices", c_uint32),
        ("cuda", c_uint32),
        ("calls", c_uint32),
        ("driver", c_char * 80),
        ("fault", Fault * FAULTS),
        ("device", Device * DEVICES),
    )


def build(folder: Path) -> Path:
    """Compiles the fake into `folder`; returns the library. Needs gcc."""
    library = folder / LIBRARY
    name = ("-fvisibility=hidden", f"-Wl,-soname,{LIBRARY}")
    subprocess.run(["gcc", *FLAGS, *name, str(SOURCE), "-o", str(library)], check=True)
    return library


class FakeNvml:
    """Every card of one fake machine; make it with `fake_nvml`."""

    def __init__(self, library: Path, path: Path, state: State) -> None:
        self._path = path
        self._state = state
        self.environment = {"LD_LIBRARY_PATH": str(library.parent), "FAKE_NVML": str(path)}
        """What a process that shall see these cards is started with."""

    def card(self, index: int = 0) -> FakeCard:
        return FakeCard(self, index)

    @property
    def calls(self) -> int:
        """NVML calls so far, of all processes; nvmlShutdown and nvmlErrorString do not count."""
        return int(self._state.calls)

    @contextmanager
    def change(self) -> Iterator[State]:
        """The state, to be written: readers see all of it or nothing."""
        self._state.sequence += 1
        try:
            yield self._state
        finally:
            self._state.sequence += 1

    def fail(
        self, call: str, code: int, *, device: int | None = None, times: int | None = None
    ) -> None:
        """Let `call`, a symbol such as nvmlDeviceGetMemoryInfo_v2, fail with NVML's `code`.

        13 (function not found) makes a driver older than the call. Replaces an earlier order for
        the same call and device; code 0 takes it back.
        """
        where = -1 if device is None else device
        with self.change() as state:
            same = (f for f in state.fault if f.call == call.encode() and f.device == where)
            free = (f for f in state.fault if f.code == 0)
            fault = next(same, None) or next(free)
            fault.call, fault.device, fault.code = call.encode(), where, code
            fault.times = -1 if times is None else times

    def forget(self, pid: int, device: int = 0) -> None:
        """What `pid` took by itself (see vram.py) is free."""
        (Path(f"{self._path}.d") / str(device) / str(pid)).unlink()

    def mend(self) -> None:
        """Take back every `fail`."""
        with self.change() as state:
            for fault in state.fault:
                fault.code = 0

    def set(self, *, driver: str | None = None, cuda: int | None = None) -> None:
        """`cuda` as NVML writes it: 13000 for 13.0."""
        with self.change() as state:
            if driver is not None:
                state.driver = driver.encode()
            if cuda is not None:
                state.cuda = cuda


class FakeCard:
    """One card of a FakeNvml."""

    def __init__(self, nvml: FakeNvml, index: int) -> None:
        self._nvml = nvml
        self.index = index

    def fail(self, call: str, code: int, *, times: int | None = None) -> None:
        self._nvml.fail(call, code, device=self.index, times=times)

    def set(self, **values: int | str) -> None:
        """Fields of Device: total=16 * GIB, power_mw=70_000, mig=1, name="…", …"""
        with self._nvml.change() as state:
            device = state.device[self.index]
            for name, value in values.items():
                assert isinstance(getattr(device, name), bytes if isinstance(value, str) else int)
                setattr(device, name, value.encode() if isinstance(value, str) else value)

    def hold(
        self,
        pid: int,
        held: int,
        *,
        kind: Kind = "compute",
        linger: float = 0.0,
        hidden: bool = False,
        stays: bool = False,
    ) -> None:
        """Process `pid` holds `held` bytes, until it dies and for `linger` seconds after.

        `linger` counts from the first NVML call that meets the process dead. `hidden`: NVML lists
        the process but not its bytes. `stays`: whether such a process lives here or not.
        """
        with self._nvml.change() as state:
            table = state.device[self.index].process
            slot = next((p for p in table if p.pid == pid), None)
            slot = slot or next(p for p in table if p.pid == 0)
            flags = KINDS[kind] | (HIDDEN if hidden else 0) | (STAYS if stays else 0)
            slot.flags, slot.bytes, slot.linger_ms = flags, held, int(linger * 1000)
            slot.died_ns = 0
            slot.pid = pid

    def free(self, pid: int) -> None:
        """Process `pid` holds nothing, and is not listed."""
        with self._nvml.change() as state:
            for slot in state.device[self.index].process:
                if slot.pid == pid:
                    slot.pid = 0

    def run_energy(self) -> None:
        """From now on the energy counter grows with the power that is set."""
        self.set(energy_since_ns=time.monotonic_ns())


@contextmanager
def fake_nvml(library: Path, path: Path, *totals: int) -> Iterator[FakeNvml]:
    """A machine with a card of each of the given bytes, its state at `path`."""
    path.write_bytes(bytes(ctypes.sizeof(State)))
    Path(f"{path}.d").mkdir(exist_ok=True)
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), ctypes.sizeof(State))
    state = State.from_buffer(mapped)
    state.magic, state.devices, state.cuda = MAGIC, len(totals), 13000
    state.driver = b"580.95.05"
    nvml = FakeNvml(library, path, state)
    for index, total in enumerate(totals):
        (Path(f"{path}.d") / str(index)).mkdir(exist_ok=True)
        nvml.card(index).set(
            name="NVIDIA Fake 16",
            uuid=f"GPU-00000000-0000-0000-0000-{index:012}",
            bus=f"00000000:{index + 1:02X}:00.0",
            total=total,
            limit_mw=300_000,
            power_mw=20_000,
            celsius=35,
        )
    try:
        yield nvml
    finally:
        del nvml._state, state
