"""The C programs of tests/bench/native: a fake upstream and a load generator."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parent / "bench" / "native"
FLAGS = ["-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror"]


def build(folder: Path) -> Path:
    """Compiles both programs into `folder`."""
    for name in ("engine", "load"):
        source = str(SOURCE / f"{name}.c")
        subprocess.run(["gcc", *FLAGS, source, "-o", str(folder / name)], check=True)
    return folder


class Upstream:
    """A running fake upstream; token i of a stream is the text ` ti`."""

    def __init__(self, process: subprocess.Popen[str], path: Path, port: int) -> None:
        self.process = process
        self.path = path
        self.port = port

    def stats(self) -> dict[str, int]:
        return dict(ask(self.path, "/stats"))

    def aborts(self, since_ns: int) -> dict[str, int]:
        """When the upstream saw each request's client leave, in monotonic ns, by its tag."""
        return dict(ask(self.path, f"/aborts?since={since_ns}")["aborts"])


@contextmanager
def upstream(programs: Path, path: Path, *flags: str) -> Iterator[Upstream]:
    process = subprocess.Popen(
        [programs / "engine", "--unix", path, "--port", "0", *flags],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        words = dict(word.split("=", 1) for word in process.stdout.readline().split()[1:])
        yield Upstream(process, path, int(words["port"]))
    finally:
        process.terminate()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


class Load:
    """A load generator under way."""

    def __init__(self, programs: Path, url: str, key: str, model: str, *flags: str) -> None:
        self.process = subprocess.Popen(
            [
                *(programs / "load", "--url", f"{url}/v1/chat/completions"),
                *("--key", key, "--model", model, "--expect-index", *flags),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )

    def result(self, within: float = 120.0) -> dict[str, Any]:
        """Its figures, once it has ended."""
        out, _ = self.process.communicate(timeout=within)
        assert self.process.returncode == 0, out
        figures: dict[str, Any] = json.loads(out)
        return figures


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("upstream", timeout=5)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(path: Path, target: str) -> Any:
    """GET over a unix socket, JSON back."""
    with closing(UnixConnection(path)) as connection:
        connection.request("GET", target)
        return json.load(connection.getresponse())
