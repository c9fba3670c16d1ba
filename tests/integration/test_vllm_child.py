"""The process around vLLM, around a server of the same habits: its workers outlive it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import msgspec

from worker.engines.group import gone, members
from worker.engines.vllm_child import Options
from worker.process import Child, spawn

ROOT = Path(__file__).parents[2]
SERVER = """
import os, signal, subprocess, sys, time
stubborn = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print(1, flush=True); time.sleep(99)"
)
worker = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE)
worker.stdout.readline()
print(os.getpid(), worker.pid, flush=True)
time.sleep(float(sys.argv[1]))
sys.exit(7)
"""
"""Starts a worker that nothing polite ends, says both pids, and ends with 7."""
PARENT = """
import os, subprocess, sys, time
options = sys.argv[1].replace("PARENT", str(os.getpid()))
argv = [sys.executable, "-m", "worker.engines.vllm_child", options]
print(subprocess.Popen(argv, start_new_session=True).pid, flush=True)
time.sleep(99)
"""


def options(folder: Path, seconds: float) -> str:
    """With the word PARENT where the parent's pid belongs."""
    argv = [sys.executable, "-c", SERVER, str(seconds)]
    made = msgspec.json.encode(Options(argv=argv, folder=str(folder), parent=0)).decode()
    return made.replace('"parent":0', '"parent":PARENT')


async def start(folder: Path, seconds: float = 99) -> tuple[Child, int, int]:
    """The child, and the pids of the server and its worker."""
    said: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    told = options(folder, seconds).replace("PARENT", str(os.getpid()))
    argv = [sys.executable, "-m", "worker.engines.vllm_child", told]
    child = await spawn(argv, folder=ROOT, on_line=said.set_result)
    async with asyncio.timeout(30):
        server, worker = map(int, (await said).split())
    return child, server, worker


async def test_a_killed_server_takes_its_workers_along(tmp_path: Path) -> None:
    child, server, worker = await start(tmp_path)
    assert sorted(members(child.pid)) == sorted((child.pid, server, worker))
    os.kill(server, signal.SIGKILL)
    async with asyncio.timeout(30):
        assert await child.exited == 128 + signal.SIGKILL
    assert members(child.pid) == []
    await child.stop()


async def test_the_status_of_the_server_is_told(tmp_path: Path) -> None:
    child, _, _ = await start(tmp_path, 0)
    async with asyncio.timeout(30):
        assert await child.exited == 7
    assert members(child.pid) == []
    await child.stop()


async def test_stop_ends_all(tmp_path: Path) -> None:
    child, _, _ = await start(tmp_path)
    async with asyncio.timeout(30):
        assert await child.stop(20) == 128 + signal.SIGTERM
        await gone(child.pid)
    assert members(child.pid) == []


async def test_all_follow_a_killed_parent(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", PARENT, options(tmp_path, 99)]
    parent = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    assert parent.stdout is not None
    async with asyncio.timeout(30):
        child = int(await parent.stdout.readline())
        server, worker = map(int, (await parent.stdout.readline()).split())
        assert sorted(members(child)) == sorted((child, server, worker))
        parent.kill()
        await parent.wait()
        await gone(child)
    assert members(child) == []
