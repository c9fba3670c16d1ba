"""Real processes, and the files of kernels and containers that are not here."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker import memory
from worker.memory import Held, Limit, Ram

MB = 1 << 20
ENGINE = """
import mmap, os, signal
def fill(mapped):
    for at in range(0, len(mapped), mmap.PAGESIZE):
        mapped[at] = 1
    return mapped
input()
own = fill(mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
shared = fill(mmap.mmap(-1, 96 << 20, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS))
if os.fork() == 0:
    fill(shared)
    print("child", flush=True)
    signal.pause()
signal.pause()
"""
ORPHAN = """
import os, signal
if os.fork() == 0:
    print(os.getpid(), flush=True)
    signal.pause()
"""
STAT = "anon 5\nfile 99\ninactive_file 7\nactive_file 20"


@pytest.fixture
def engine() -> Iterator[subprocess.Popen[bytes]]:
    yield from session(ENGINE)


@pytest.fixture
def orphan() -> Iterator[subprocess.Popen[bytes]]:
    yield from session(ORPHAN)


def session(script: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, all of which ends with the test."""
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    yield process
    os.killpg(process.pid, 9)
    process.communicate(timeout=20)


def line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


def test_shared_pages_count_once(engine: subprocess.Popen[bytes]) -> None:
    before = memory.held([engine.pid])
    assert engine.stdin is not None
    engine.stdin.write(b"\n")
    engine.stdin.flush()
    assert line(engine) == b"child\n"
    tree = memory.trees([engine.pid])[engine.pid]
    assert len(tree) == 2
    after = memory.held(tree)
    assert before.exact
    assert after.exact
    grown = after.bytes - before.bytes
    assert 160 * MB <= grown <= 160 * MB * 1.05, f"{grown / MB:.1f} MB"
    resident = sum(resident_bytes(pid) for pid in tree)
    assert resident > 320 * MB, "RSS counts what they share in both"


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_session_keeps_its_orphans(orphan: subprocess.Popen[bytes]) -> None:
    left = int(line(orphan))
    os.waitid(os.P_PID, orphan.pid, os.WEXITED | os.WNOWAIT)
    assert memory.trees([orphan.pid]) == {orphan.pid: {left}}, "without the leader, a zombie"


def test_the_dead_hold_nothing() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(20)
    assert memory.trees([gone.pid]) == {gone.pid: set()}
    assert memory.held([gone.pid]) == Held(0, True)


def test_a_second_look_is_cheap() -> None:
    memory.trees([os.getpid()])
    start = time.process_time()
    for _ in range(5):
        memory.held(memory.trees([os.getpid()])[os.getpid()])
    assert (time.process_time() - start) / 5 < 0.1


def test_without_smaps_rollup_it_is_rss(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "statm").write_text("900 25 10 1 0 200 0\n")
    assert memory.of_process(7, tmp_path) == Held(25 * os.sysconf("SC_PAGE_SIZE"), False)
    assert memory.held([7, 8], tmp_path) == Held(25 * os.sysconf("SC_PAGE_SIZE"), False)


def test_what_adds_up_in_smaps_rollup(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "smaps_rollup").write_text(
        "55d0-7ffe ---p 00000000 00:00 0     [rollup]\n"
        "Rss:                4000 kB\nPss:                3000 kB\nPss_Dirty:          2000 kB\n"
        "Pss_Anon:           1900 kB\nPss_File:           1000 kB\nPss_Shmem:           100 kB\n"
        "Private_Hugetlb:    2048 kB\nSwap:                900 kB\nSwapPss:             500 kB\n"
    )
    assert memory.of_process(7, tmp_path) == Held(5548 * 1024, True, 1000 * 1024)


def test_names_with_brackets_and_blanks(tmp_path: Path) -> None:
    for pid, parent in ((5, 1), (6, 5)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a) b) S {parent} {pid} {pid} 0 -1")
    assert memory.trees([5], tmp_path) == {5: {5, 6}}


def test_the_ram_of_this_machine() -> None:
    ram = memory.ram()
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < ram.available < ram.total <= machine
    assert (ram.total == machine) == (ram.limit == "machine")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A /proc with 16 GB, 9 of them available; no control groups."""
    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(
        "MemTotal:       16000000 kB\nMemFree:         4000000 kB\nMemAvailable:    9000000 kB\n"
    )
    (proc / "self" / "cgroup").write_text("")
    (proc / "self" / "mountinfo").write_text("22 1 0:20 / /proc rw - proc proc rw\n")
    return proc


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def mount(proc: Path, path: str, root: str, at: Path, kind: str, options: str) -> None:
    (proc / "self" / "cgroup").write_text(path)
    (proc / "self" / "mountinfo").write_text(f"40 31 0:38 {root} {at} rw - {kind} x {options}\n")


def test_without_control_groups(machine: Path) -> None:
    assert memory.ram(machine) == Ram(16_000_000 * 1024, 9_000_000 * 1024, "machine")


def test_v2_takes_the_tightest_up_the_tree(machine: Path, tmp_path: Path) -> None:
    at = tmp_path / "cg"
    mount(machine, "0::/a/b\n", "/", at, "cgroup2", "rw")
    group(at)
    outer = {"memory__max": str(6 << 30), "memory__high": str(4 << 30)}
    group(at / "a", **outer, memory__current=str(3 << 30), memory__stat=STAT)
    group(at / "a" / "b", memory__max="max", memory__high="max", memory__current="1")
    assert list(memory.limits(machine)) == [Limit(4 << 30, (3 << 30) - 27)]
    assert memory.ram(machine) == Ram(4 << 30, (1 << 30) + 27, "cgroup")


def test_a_group_over_its_limit_has_nothing_left(machine: Path, tmp_path: Path) -> None:
    at = tmp_path / "cg"
    mount(machine, "0::/\n", "/", at, "cgroup2", "rw")
    group(at, memory__max="1000", memory__current="1500", memory__stat="inactive_file 0")
    assert memory.ram(machine) == Ram(1000, 0, "cgroup")


def test_v1_in_a_container_that_sees_its_host_path(machine: Path, tmp_path: Path) -> None:
    at = tmp_path / "cg"
    path = "9:name=systemd:/x\n4:cpu,memory:/docker/1f2e\n0::/\n"
    mount(machine, path, "/docker/1f2e", at, "cgroup", "rw,memory")
    group(
        at,
        memory__limit_in_bytes=str(2 << 30),
        memory__usage_in_bytes=str(1 << 30),
        memory__stat="cache 9\ntotal_inactive_file 1000\ntotal_active_file 24",
    )
    assert memory.ram(machine) == Ram(2 << 30, (1 << 30) + 1024, "cgroup")


def test_v1_writes_no_limit_as_a_large_number(machine: Path, tmp_path: Path) -> None:
    at = tmp_path / "cg"
    mount(machine, "4:memory:/y\n", "/", at, "cgroup", "rw,memory")
    for folder in (at, at / "y"):
        group(folder, memory__limit_in_bytes="9223372036854771712", memory__usage_in_bytes="5")
    assert list(memory.limits(machine)) == []


def test_a_path_outside_of_the_namespace(machine: Path, tmp_path: Path) -> None:
    at = tmp_path / "cg"
    mount(machine, "0::/../../other\n", "/", at, "cgroup2", "rw")
    group(at, memory__max="4096", memory__current="96", memory__stat="inactive_file 0")
    assert memory.ram(machine) == Ram(4096, 4000, "cgroup")
