"""Other gateways, started on this machine in front of the same upstream as ours.

Each peer runs as its own documentation starts it, as one process, with its logging turned
down: what is compared is the proxying, not the log. Install them with the scripts beside
this file. Only the standard library is needed here.

    peer = PEERS["litellm"]()
    if peer.installed(folder):
        pids, url, key, model = peer.start(folder, "http://127.0.0.1:9000", port)
        ...                       # load url + "/v1/chat/completions", with peer.headers
        peer.stop()

A peer dies with the thread that started it, so start it from the main thread. vllm-router
also takes port + 1, for its metrics.

`python3 peers.py NAME FOLDER UPSTREAM_URL PORT` starts one by hand, until it is interrupted.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import NamedTuple

PR_SET_PDEATHSIG = 1
MODEL = "bench"


class Running(NamedTuple):
    pids: list[int]  # the peer and all of its children, for measuring CPU and memory
    url: str  # the address before /v1/...
    key: str
    model: str


class Peer:
    name = ""
    program = ""  # what the install script has put into the folder
    key = "sk-bench"
    start_seconds = 60.0

    def __init__(self) -> None:
        self.headers: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None

    def installed(self, folder: str | Path) -> bool:
        return (Path(folder) / self.program).exists()

    def start(self, folder: str | Path, upstream_url: str, port: int) -> Running:
        folder = Path(folder).resolve()
        command, environment = self.command(folder, upstream_url.rstrip("/"), port)
        with (folder / "peer.log").open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        atexit.register(self.stop)
        url = f"http://127.0.0.1:{port}"
        self._wait(url, folder / "peer.log")
        return Running(_family(self.process.pid), url, self.key, MODEL)

    def stop(self) -> None:
        process, self.process = self.process, None
        if process is None or process.poll() is not None:
            return
        for how in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, how)  # its own session, so nobody else is in the group
                process.wait(timeout=5)
                return
            except (subprocess.TimeoutExpired, ProcessLookupError):
                continue

    def load_flags(self, running: Running) -> list[str]:
        """The load generator's flags for this peer."""
        flags = ["--url", running.url + "/v1/chat/completions", "--key", running.key]
        for header in self.headers:
            flags += ["--header", header]
        return [*flags, "--model", running.model]

    def command(self, folder: Path, upstream: str, port: int) -> tuple[list[str], dict[str, str]]:
        raise NotImplementedError

    def _wait(self, url: str, log: Path) -> None:
        deadline = time.monotonic() + self.start_seconds
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                break
            if self._answers(url):
                return
            time.sleep(0.2)
        self.stop()
        tail = log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{self.name} did not come up\n{tail}")

    def _answers(self, url: str) -> bool:
        """Ready means: a completion comes through, not only that the port is open."""
        headers = dict(header.split(": ", 1) for header in self.headers)
        body = {"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
        request = urllib.request.Request(
            url + "/v1/chat/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}", **headers},
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as reply:
                return bool(json.load(reply).get("choices"))
        except (OSError, ValueError):
            return False


class LiteLLM(Peer):
    name = "litellm"
    program = "venv/bin/litellm"
    start_seconds = 120.0  # it imports for a long time

    def command(self, folder: Path, upstream: str, port: int) -> tuple[list[str], dict[str, str]]:
        target = {"model": f"openai/{MODEL}", "api_base": f"{upstream}/v1", "api_key": "none"}
        config = {
            "model_list": [{"model_name": MODEL, "litellm_params": target}],
            "general_settings": {"master_key": self.key},
        }
        path = folder / "config.yaml"
        path.write_text(json.dumps(config))  # JSON is YAML
        command = [str(folder / self.program), "--config", str(path)]
        command += ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
        return command, {
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOG": "ERROR",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it fetches a price list at start
        }


class Portkey(Peer):
    name = "portkey"
    program = "node_modules/@portkey-ai/gateway/build/start-server.js"

    def command(self, folder: Path, upstream: str, port: int) -> tuple[list[str], dict[str, str]]:
        # It has no configuration of its own: each request says where it goes.
        self.headers = ["x-portkey-provider: openai", f"x-portkey-custom-host: {upstream}/v1"]
        command = ["node", str(folder / self.program), f"--port={port}", "--headless"]
        return command, {"NODE_ENV": "production"}


class VllmRouter(Peer):
    name = "vllm-router"
    program = "venv/bin/vllm-router"

    def command(self, folder: Path, upstream: str, port: int) -> tuple[list[str], dict[str, str]]:
        command = [str(folder / self.program), "--worker-urls", upstream, "--policy", "round_robin"]
        command += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "error"]
        # Its metrics port is fixed by default: two runs at once would collide.
        command += ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(port + 1)]
        return command, {}


PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in (LiteLLM, Portkey, VllmRouter)}


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in children.read_text().split()]
    return found


def main() -> None:
    name, folder, upstream, port = sys.argv[1:]
    peer = PEERS[name]()
    print(peer.start(folder, upstream, int(port)), *peer.headers, sep="\n", flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        peer.stop()


if __name__ == "__main__":
    main()
