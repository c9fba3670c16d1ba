"""The `aihub` command beside a running hub."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.hub import Hub


def aihub(hub: Hub, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name[:6] != "AIHUB_"}
    return subprocess.run(
        [sys.executable, "-m", "deploy.main", *arguments],
        env={**environment, "AIHUB_HOME": str(hub.home), "AIHUB_PORT": str(hub.port)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def said(hub: Hub, *arguments: str) -> str:
    done = aihub(hub, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout
