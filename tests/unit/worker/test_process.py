from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from worker.process import Child, spawn

FAMILY = """
import subprocess, sys, time
code = "import time; print('in', flush=True); time.sleep(99)"
kid = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
kid.stdout.readline()
print(kid.pid, flush=True)
time.sleep(99)
"""


async def ended(pid: int) -> None:
    """Returns when a process that is not our child has ended."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop.add_reader(descriptor, over.set)
    await asyncio.wait_for(over.wait(), 5)
    loop.remove_reader(descriptor)
    os.close(descriptor)


async def run(code: str, tmp_path: Path, heard: asyncio.Queue[str] | None = None) -> Child:
    on_line = heard.put_nowait if heard is not None else None
    return await spawn([sys.executable, "-c", code], folder=tmp_path, on_line=on_line)


async def test_stop_ends_the_whole_group(tmp_path: Path) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    child = await run(FAMILY, tmp_path, heard)
    grandchild = int(await heard.get())
    assert child.alive
    assert os.getpgid(grandchild) == child.pid != os.getpgid(0)
    assert await child.stop() == -signal.SIGTERM
    assert await child.stop() == -signal.SIGTERM
    assert not child.alive
    await ended(grandchild)


async def test_a_deaf_child_is_killed(tmp_path: Path) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    deaf = (
        "import signal; signal.signal(15, signal.SIG_IGN); print('on', flush=True); signal.pause()"
    )
    child = await run(deaf, tmp_path, heard)
    await heard.get()
    assert await child.stop(grace=0.05) == -signal.SIGKILL


async def test_its_last_words_are_kept(tmp_path: Path) -> None:
    child = await run("import sys; print('out'); sys.exit('no such file')", tmp_path)
    assert await child.exited == 1
    await child.drained()
    assert child.tail() == ["out", "no such file"]
    assert not child.alive
    await child.stop()


async def test_death_is_seen_at_once(tmp_path: Path) -> None:
    child = await run("import time; time.sleep(99)", tmp_path)
    os.kill(child.pid, signal.SIGKILL)
    assert await asyncio.wait_for(child.exited, 5) == -signal.SIGKILL
    assert not child.alive
    await child.stop()


async def test_settings_are_not_inherited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIHUB_ADMIN_KEY", "secret")
    code = "import os; print(os.environ.get('AIHUB_ADMIN_KEY'), os.environ['EXTRA'])"
    child = await spawn([sys.executable, "-c", code], folder=tmp_path, environment={"EXTRA": "1"})
    await child.drained()
    assert child.tail() == ["None 1"]
    await child.stop()
