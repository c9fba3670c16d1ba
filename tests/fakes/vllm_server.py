"""A double of vLLM on a card: its routes as far as our engine uses them, its memory, its habits.

`install` writes an executable that stands for the interpreter of vLLM's environment. The double
takes memory of the fake card (tests/fakes/nvml), refuses to start where the share it was given is
not free, and does what the real one does asleep: takes requests, and never answers.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import UnixStreamServer
from typing import Any

VERSION = "0.0.double"
MIB = 1 << 20
CONTEXT = 700 * MIB
"""Of CUDA, which stays when the model sleeps."""
BAR = "Loading safetensors checkpoint shards"
READING = (
    "INFO 11-23 07:56:10 [model_runner.py:401] Starting to load model m...\n",
    f"\r{BAR}:   0% Completed | 0/2 [00:00<?, ?it/s]",
    f"\r{BAR}:  50% Completed | 1/2 [00:01<00:01,  1.0s/it]",
)
READY = (
    f"\r{BAR}: 100% Completed | 2/2 [00:02<00:00,  1.0s/it]\n",
    "INFO 11-23 07:56:14 [default_loader.py:308] Loading weights took 2.00 seconds\n",
    "INFO 11-23 07:56:29 [core.py:9] init engine (profile, warmup model) took 9.20 s\n",
)
STEP = 0.03
"""Seconds between two of them."""
ROOT = Path(__file__).parents[2]
SCRIPT = f"""#!{sys.executable}
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.fakes import vllm_server
vllm_server.main(sys.argv[1:])
"""


def install(folder: Path) -> str:
    """The path of the executable."""
    script = folder / "python"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    return str(script)


def tell_start(lines: tuple[str, ...]) -> None:
    """What the real one writes on its way, each line long enough to be seen."""
    for line in lines:
        sys.stderr.write(line)
        sys.stderr.flush()
        time.sleep(STEP)


class Memory:
    """What the double holds: nothing where there is no fake card."""

    def __init__(self, model: str, kv: int, share: float) -> None:
        config = json.loads((Path(model) / "config.json").read_bytes())
        self.awake = CONTEXT + int(config["bytes"]) + kv
        if "FAKE_NVML" not in os.environ:
            return
        from tests.fakes.nvml import vram

        card = int(os.environ["CUDA_VISIBLE_DEVICES"].rpartition("-")[2])
        self._hold = lambda held: vram.hold(held, device=card)
        total = vram.total(card)
        if vram.free(card) < share * total:
            print("(EngineCore pid=1) ERROR 11-23 07:57:06 [core.py:1] starting", file=sys.stderr)
            raise SystemExit(f"ValueError: Free memory on device is less than {share} of {total}")

    def hold(self, held: int) -> None:
        if "FAKE_NVML" in os.environ:
            self._hold(held)


class Server(UnixStreamServer, ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        UnixStreamServer.server_bind(self)

    def __init__(self, path: str, memory: Memory, *, sleeps: bool) -> None:
        super().__init__(path, Handler)
        self.memory = memory
        self.sleeps = sleeps
        self.awake = threading.Event()
        self.awake.set()
        self.unanswered = 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: Any) -> None:
        return

    def do_GET(self) -> None:
        if self.path == "/is_sleeping":
            self.tell({"is_sleeping": not self.server.awake.is_set()})
        elif self.path == "/unanswered":
            self.tell({"count": self.server.unanswered})
        else:
            self.tell({}, 200 if self.path == "/health" else 404)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path.partition("?")[0]
        if path in ("/sleep", "/wake_up"):
            self.turn(path == "/sleep")
            return
        self.server.unanswered += not self.server.awake.is_set()
        self.server.awake.wait()
        if path == "/v1/completions":
            self.tell({"choices": []})
        elif path == "/v1/chat/completions":
            self.stream()
        elif path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter"):
            self.tell({})
        else:
            self.tell({}, 404)

    def turn(self, asleep: bool) -> None:
        if not self.server.sleeps:
            self.tell({"error": {"message": "Sleep mode is not enabled."}}, 400)
            return
        (self.server.awake.clear if asleep else self.server.awake.set)()
        self.server.memory.hold(CONTEXT if asleep else self.server.memory.awake)
        self.tell({"status": "sleeping" if asleep else "awake"})

    def stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for chunk in (
            {"choices": [{"delta": {"content": "one"}, "finish_reason": None}]},
            {"choices": [{"delta": {}, "finish_reason": "stop"}]},
            {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}},
        ):
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def tell(self, body: dict[str, Any], status: int = 200) -> None:
        told = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)


def main(argv: list[str]) -> None:
    if argv[0] == "-c":
        print(VERSION)
        return
    assert argv[:2] == ["-m", "vllm.entrypoints.openai.api_server"]
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--uds", required=True)
    parser.add_argument("--kv-cache-memory-bytes", type=int, required=True)
    parser.add_argument("--gpu-memory-utilization", type=float, required=True)
    parser.add_argument("--enable-sleep-mode", action="store_true")
    options, _ = parser.parse_known_args(argv[2:])
    tell_start(READING)
    memory = Memory(options.model, options.kv_cache_memory_bytes, options.gpu_memory_utilization)
    memory.hold(memory.awake)
    tell_start(READY)
    developer = os.environ.get("VLLM_SERVER_DEV_MODE") == "1"
    Server(options.uds, memory, sleeps=options.enable_sleep_mode and developer).serve_forever()
