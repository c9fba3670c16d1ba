"""A real S3-compatible server: rclone, which serves a folder and checks every signature."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from shared.lifeline import die_with_parent
from tests.hub import free_port

BUCKET = "aihub-files"
KEY, SECRET = "AKIAEXAMPLE", "sec/ret+of the=test"
QUOTED = "sec%2Fret%2Bof%20the%3Dtest"
WITHIN = 30.0


class S3Server:
    """Its bucket is `folder`/BUCKET; `url` is the setting."""

    def __init__(self, folder: Path) -> None:
        self.bucket = folder / BUCKET
        self.bucket.mkdir()
        self.port = free_port()
        self.url = f"s3+http://{KEY}:{QUOTED}@127.0.0.1:{self.port}/{BUCKET}/of/hub"
        self._folder = folder
        self.start()

    def start(self) -> None:
        program = Path(sys.executable).with_name("rclone")
        options = ("--auth-key", f"{KEY},{SECRET}", "--addr", f"127.0.0.1:{self.port}")
        with (self._folder / "rclone.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(program), "--config", os.devnull, "serve", "s3", *options, str(self._folder)],
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=partial(die_with_parent, os.getpid()),
            )
        deadline = time.monotonic() + WITHIN
        while not self._listens():
            assert time.monotonic() < deadline, (self._folder / "rclone.log").read_text()
            assert self._process.poll() is None, (self._folder / "rclone.log").read_text()
            time.sleep(0.02)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def objects(self) -> dict[str, int]:
        """Bytes of each, by its key; what goes meanwhile may be missing."""
        found: dict[str, int] = {}
        for folder, _, names in os.walk(self.bucket):
            for name in names:
                path = Path(folder, name)
                with suppress(FileNotFoundError):
                    found[str(path.relative_to(self.bucket))] = path.stat().st_size
        return found

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def running_s3(folder: Path) -> Iterator[S3Server]:
    server = S3Server(folder)
    try:
        yield server
    finally:
        server.stop()
