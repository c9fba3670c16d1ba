"""`aihub chat` as a process, against a small server that speaks the wire."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

KEY = "sk-aihub-0123456789abcdef"


class Upstream(BaseHTTPRequestHandler):
    """Answers with how many messages it got, and what the last one said."""

    server: Server

    def do_GET(self) -> None:
        self.reply(200, {"object": "list", "data": [{"id": "first"}, {"id": "second"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        last = body["messages"][-1]["content"]
        if self.headers["Authorization"] != f"Bearer {KEY}":
            fault = {"message": "Incorrect API key provided", "code": "invalid_api_key"}
            self.reply(401, {"error": fault})
        elif last == "break":
            self.events(
                [chunk("half an "), {"error": {"message": "the engine broke", "code": None}}]
            )
        elif last == "vanish":
            self.events([chunk("half an ")])
        elif last == "hang":
            self.events([chunk("begun")])
            self.server.left.wait(30)
        else:
            words = [body["model"], " ", str(len(body["messages"])), " ", last]
            self.events([chunk(word) for word in words], done=True)

    def reply(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def events(self, items: list[dict[str, Any]], done: bool = False) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(b": a comment\n\n")
        for item in items:
            self.wfile.write(b"data: " + json.dumps(item).encode() + b"\n\n")
        if done:
            self.wfile.write(b"data: [DONE]\n\n")
        self.wfile.flush()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Upstream)
        self.asked: list[dict[str, Any]] = []
        self.left = threading.Event()


def chunk(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.left.set()
        running.shutdown()
        thread.join()


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "AIHUB_HOME": str(tmp_path)}


def command(port: int, *options: str) -> list[str]:
    url = f"http://127.0.0.1:{port}/v1"
    return [sys.executable, "-m", "deploy.main", "chat", "--base-url", url, *options]


def chat(
    server: Server, environ: dict[str, str], lines: str, *options: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(server.server_port, "--key", KEY, *options),
        input=lines,
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_each_line_is_a_turn_of_one_conversation(server: Server, environ: dict[str, str]) -> None:
    ran = chat(server, environ, "hello\nagain\n/exit\nnever\n")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "first 1 hello\nfirst 3 again\n"
    said = [message["role"] for message in server.asked[1]["messages"]]
    assert said == ["user", "assistant", "user"]
    assert server.asked[1]["messages"][1]["content"] == "first 1 hello"
    assert server.asked[0]["stream"] is True


def test_commands(server: Server, environ: dict[str, str]) -> None:
    ran = chat(server, environ, "a\n/reset\nb\n/model second\nc\n/model\n/what\n")
    assert ran.stdout == "first 1 a\nfirst 1 b\nsecond 3 c\nfirst\nsecond\n"
    assert "/what is unknown" in ran.stderr
    assert ran.returncode == 1


def test_a_model_can_be_named(server: Server, environ: dict[str, str]) -> None:
    assert chat(server, environ, "x\n", "--model", "third").stdout == "third 1 x\n"


def test_a_wrong_key_is_said(server: Server, environ: dict[str, str]) -> None:
    ran = chat(server, environ, "x\n", "--key", "sk-wrong")
    assert ran.returncode == 1
    assert "Incorrect API key provided [invalid_api_key] (HTTP 401)" in ran.stderr


@pytest.mark.parametrize(("line", "why"), [("break", "the engine broke"), ("vanish", "broke off")])
def test_an_error_within_the_answer_is_said(
    server: Server, environ: dict[str, str], line: str, why: str
) -> None:
    ran = chat(server, environ, f"{line}\nhello\n")
    assert ran.returncode == 1
    assert ran.stdout == "half an \nfirst 3 hello\n"
    assert why in ran.stderr


def test_a_reader_that_has_enough_is_no_error(server: Server, environ: dict[str, str]) -> None:
    with subprocess.Popen(
        command(server.server_port, "--key", KEY),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environ,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.close()
        process.stdin.write(b"hello\nagain\n")
        process.stdin.close()
        assert process.stderr is not None and process.stderr.read() == b""
        assert process.wait(30) == 128 + signal.SIGPIPE


@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
def test_input_that_is_no_text_is_said(
    server: Server, environ: dict[str, str], locale: str
) -> None:
    ran = subprocess.run(
        command(server.server_port, "--key", KEY),
        input=b"\xff\xfe\n",
        env={**environ, "LC_ALL": locale},
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert ran.returncode == 1
    assert ran.stderr == b"error: the input is not UTF-8 text: invalid start byte\n"
    assert server.asked == []


def test_our_key_is_not_sent_to_another_server(
    server: Server, environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "admin.key").write_text(KEY)
    ran = subprocess.run(
        command(server.server_port),
        input="x\n",
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "invalid_api_key" in ran.stderr


def test_our_key_is_found_for_our_hub(
    server: Server, environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "admin.key").write_text(KEY)
    ran = subprocess.run(
        [sys.executable, "-m", "deploy.main", "chat"],
        input="x\n",
        env={**environ, "AIHUB_PORT": str(server.server_port)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ran.stdout == "first 1 x\n", ran.stderr


def test_ctrl_c_stops_the_answer_and_not_the_program(
    server: Server, environ: dict[str, str]
) -> None:
    with subprocess.Popen(
        command(server.server_port, "--key", KEY),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environ,
        # What runs in the background may have been started with Ctrl-C ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"hang\n")
        process.stdin.flush()
        assert process.stdout.read(5) == b"begun"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == b" (stopped)\n"
        process.stdin.write(b"hello\n")
        process.stdin.close()
        assert process.stdout.readline() == b"first 3 hello\n"
        assert process.wait(10) == 0


def test_no_server_is_one_clear_line(environ: dict[str, str]) -> None:
    with Server() as closed:
        port = closed.server_port
    ran = subprocess.run(
        command(port),
        input="x\n",
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ran.returncode == 1
    assert ran.stderr.startswith(f"aihub chat: http://127.0.0.1:{port}/v1 does not answer")
    assert ran.stderr.count("\n") == 1
