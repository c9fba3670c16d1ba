"""What a large file does to the gateway that takes it: memory, time, and other requests meanwhile.

    python -m tests.bench.files [--mib 512] [--clients 2] [--s3]

Prints a table. The content is random, the client is OpenAI's, everything is on one machine. The
gateway is asked for /health/live every 20 ms all the while, which tells how long it is busy.
With --s3 the files are in an S3-compatible server, rclone's, on the same machine.
"""

from __future__ import annotations

import argparse
import http.client
import os
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from openai import OpenAI

from tests.bench.cpu import Meter, resident
from tests.hub import Hub, running_hub
from tests.s3 import running_s3

MIB = 1 << 20
PAUSE = 0.02


class Watch(threading.Thread):
    """The gateway's memory, and how long it lets a small request wait."""

    def __init__(self, hub: Hub) -> None:
        super().__init__()
        self._hub = hub
        self._over = threading.Event()
        self.before = self.highest = resident(hub.pids("gateway"))
        self.waits: list[float] = []
        self.cpu = Meter({"gateway": hub.pids("gateway")})

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._hub.port, timeout=60)
        while not self._over.wait(PAUSE):
            began = time.perf_counter()
            connection.request("GET", "/health/live")
            connection.getresponse().read()
            self.waits.append(time.perf_counter() - began)
            self.highest = max(self.highest, resident(self._hub.pids("gateway")))
        connection.close()

    def end(self) -> None:
        self._over.set()
        self.join()
        self.waits.sort()

    def wait_ms(self, share: float) -> float:
        return 1000 * self.waits[min(len(self.waits) - 1, int(share * len(self.waits)))]


def measure(hub: Hub, name: str, size: int, clients: int, act: Callable[[], None]) -> None:
    watch = Watch(hub)
    watch.start()
    began = time.perf_counter()
    threads = [threading.Thread(target=act) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    watch.end()
    grown = (watch.highest - watch.before) / MIB
    print(
        f"{name:<30} {seconds:6.1f} {clients * size / MIB / seconds:7.0f}"
        f" {watch.before / MIB:8.1f} {grown:+8.1f} {watch.cpu.read()['gateway']:7.1f}"
        f" {watch.wait_ms(0.5):8.1f} {watch.wait_ms(0.99):7.1f}"
    )


def run(hub: Hub, source: Path, clients: int) -> None:
    size = source.stat().st_size
    client = OpenAI(base_url=hub.base_url, api_key=hub.key, max_retries=0)
    sent: list[str] = []

    def create() -> None:
        sent.append(client.files.create(file=source, purpose="user_data").id)

    def upload() -> None:
        done = client.uploads.upload_file_chunked(
            file=source, mime_type="application/octet-stream", purpose="user_data"
        )
        assert done.file is not None
        sent.append(done.file.id)

    def content() -> None:
        with client.files.with_streaming_response.content(sent[-1]) as reply:
            assert sum(map(len, reply.iter_bytes(MIB))) == size

    print(f"{size / MIB:g} MiB, load average {os.getloadavg()[0]:.1f} at the beginning")
    print(" " * 33 + "s   MiB/s   RSS MiB  grown   CPU s   live p50 ms  p99")
    measure(hub, "nothing (10 s)", 0, 1, lambda: time.sleep(10))
    measure(hub, "POST /v1/files", size, 1, create)
    measure(hub, "GET /v1/files/{id}/content", size, 1, content)
    measure(hub, "/v1/uploads, parts of 64 MiB", size, 1, upload)
    measure(hub, f"POST /v1/files, {clients} at once", size, clients, create)
    measure(hub, f"GET content, {clients} at once", size, clients, content)
    for id_ in sent:
        client.files.delete(id_)
    client.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--s3", action="store_true")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        source = Path(folder) / "content"
        with source.open("wb") as file:
            for _ in range(options.mib):
                file.write(os.urandom(MIB))
        environ = {"AIHUB_FILE_LIMIT": f"{options.mib + 1}MiB", "AIHUB_FILE_QUOTA": "1TiB"}
        if options.s3:
            environ["AIHUB_FILE_STORE_URL"] = stack.enter_context(running_s3(Path(folder))).url
        run(stack.enter_context(running_hub(**environ)), source, options.clients)


if __name__ == "__main__":
    main()
