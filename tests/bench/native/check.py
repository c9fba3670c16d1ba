"""Builds the fake engine and the load generator and checks one against the other.

usage: python3 check.py [FOLDER] [--sanitize]

FOLDER takes the binaries (default: a temporary one). The checks are about exactness: every
token once and in order, every abort seen. Speed is printed and only held to loose bounds of
CPU time, which hold on a busy machine too. With --sanitize the programs run under the
address and undefined-behaviour sanitizers, without those bounds.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
WARNINGS = ["-Wall", "-Wextra", "-Werror"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover", "-g"]
TOKENS = 50
CHAT = "/v1/chat/completions"


def build(folder: Path, sanitize: bool) -> None:
    for name in ("engine", "load"):
        extra = SANITIZE if sanitize else []
        source, binary = HERE / f"{name}.c", folder / name
        subprocess.run(["gcc", "-O2", *WARNINGS, *extra, source, "-o", binary], check=True)


class Engine:
    def __init__(self, folder: Path, *flags: str) -> None:
        command = [str(folder / "engine"), "--port", "0", *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        ready = self.process.stdout.readline().split()
        self.port = int(ready[1].removeprefix("port="))
        self.url = f"http://127.0.0.1:{self.port}"

    def post(self, path: str, body: dict, **headers: str) -> str:
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request) as reply:
            return reply.read().decode()

    def get(self, path: str) -> dict:
        with urllib.request.urlopen(self.url + path) as reply:
            return json.load(reply)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        code = self.process.wait(timeout=10)
        assert code == 0, f"the engine ended with {code}"


def load(folder: Path, *flags: object) -> dict:
    command = [str(folder / "load"), "--tokens", str(TOKENS), "--expect-index", *map(str, flags)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def exact(result: dict, requests: int, tokens: int = TOKENS) -> None:
    counted = result["tokens"]
    assert result["ok"] == result["requests"] == requests, result
    assert counted["seen"] == requests * tokens, counted
    assert not any(counted[k] for k in ("lost", "duplicated", "disordered", "foreign")), counted


def show(what: str, r: dict) -> None:
    ttft, total, gap = r["ttft_ms"], r["total_ms"], r["gap_ms"]
    print(
        f"{what:26} {r['requests_per_s']:9.0f} req/s {r['chunks_per_s']:9.0f} chunks/s  "
        f"ttft {ttft['p50']:.3f}/{ttft['p99']:.3f}  total {total['p50']:.2f}/{total['p99']:.2f}  "
        f"gap {gap['p50']:.2f}/{gap['p99']:.2f}/{gap['max']:.2f} ms  "
        f"cpu {r['cpu_us_per_chunk']:.2f} us/chunk"
    )


# ---- the wire ----


def events(stream: str) -> list[dict]:
    lines = [line.removeprefix("data: ") for line in stream.split("\n\n") if line]
    assert lines[-1] == "[DONE]", lines[-1]
    return [json.loads(line) for line in lines[:-1]]


def ask(**more: object) -> dict:
    messages = [{"role": "user", "content": 'say "hi" \\ {["'}]
    return {"model": 'a"b', "messages": messages, "max_tokens": 3, "stream": True, **more}


def check_chat(engine: Engine) -> None:
    chunks = events(engine.post(CHAT, ask(stream_options={"include_usage": True})))
    assert all(c["object"] == "chat.completion.chunk" and c["model"] == 'a"b' for c in chunks)
    assert len({(c["id"], c["created"], c["system_fingerprint"]) for c in chunks}) == 1
    deltas = [c["choices"][0]["delta"] for c in chunks[:-1]]
    assert deltas[0] == {"role": "assistant", "content": ""} and deltas[-1] == {}
    assert [d["content"] for d in deltas[1:-1]] == [" t0", " t1", " t2"]
    assert [c["choices"][0]["finish_reason"] for c in chunks[:-1]] == [None] * 4 + ["length"]
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] == 3
    assert all(c["usage"] is None for c in chunks[:-1])
    whole = json.loads(engine.post(CHAT, ask(stream=False)))
    assert whole["choices"][0]["message"]["content"] == " t0 t1 t2"
    assert whole["usage"]["total_tokens"] == whole["usage"]["prompt_tokens"] + 3


def check_resume(engine: Engine) -> None:
    for content in (" t0 t1", [{"type": "text", "text": " t0 t1"}]):
        said = {"role": "assistant", "content": content}
        stream = engine.post(CHAT, ask(messages=[{"role": "user", "content": "x"}, said]))
        texts = [c["choices"][0]["delta"].get("content") for c in events(stream)]
        assert texts == ["", " t2", " t3", " t4", None], texts
    for content in ("t0 t1", " t0 t2", " t0 t1!"):  # not a run of tokens: nothing to go on from
        body = ask(stream=False, messages=[{"role": "assistant", "content": content}])
        whole = json.loads(engine.post(CHAT, body))
        assert whole["choices"][0]["message"]["content"] == " t0 t1 t2"


def check_other_routes(engine: Engine) -> None:
    body = {"model": "m", "prompt": "go t0 t1 t2", "max_tokens": 2, "stream": True}
    chunks = events(engine.post("/v1/completions", body, **{"x-pace-ms": "0"}))
    assert [c["choices"][0]["text"] for c in chunks] == [" t3", " t4", ""]
    for given, count in (("a", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1], [2]], 2)):
        reply = json.loads(engine.post("/v1/embeddings", {"model": "m", "input": given}))
        assert len(reply["data"]) == count and len(reply["data"][0]["embedding"]) == 4
    assert engine.get("/v1/models")["data"][0]["id"] == "bench"
    assert engine.get("/health")["status"] == "ok"


# ---- load ----


def check_loads(engine: Engine, folder: Path, quick_cpu: bool) -> None:
    url = ("--url", engine.url + CHAT)
    for streams, rounds in ((1, 2), (32, 2), (128, 3)):
        r = load(
            folder, *url, "--connections", streams, "--requests", streams * rounds, "--ramp-ms", 500
        )
        exact(r, streams * rounds)
        show(f"paced 20 ms, {streams} streams", r)
        assert r["gap_ms"]["p50"] > 15, r["gap_ms"]
        assert not quick_cpu or streams < 32 or r["cpu_us_per_chunk"] < 60
    flat = ("--header", "x-pace-ms: 0")
    many = ("--connections", 128, "--warmup", 128)
    r = load(folder, *url, *flat, *many, "--requests", 1000, "--tokens", 1000)
    exact(r, 1000, 1000)
    show("flat out, 128 streams", r)
    assert not quick_cpu or r["cpu_us_per_chunk"] < 2
    r = load(folder, *url, *flat, *many, "--requests", 4000, "--include-usage", 1)
    exact(r, 4000)
    show("flat out, 50 tokens each", r)
    for connections in (1, 32, 128):
        r = load(folder, *url, "--stream", 0, "--connections", connections, "--seconds", 1)
        exact(r, r["requests"])
        show(f"JSON, {connections} connections", r)
    crowd = ("--connections", 2000, "--requests", 2000, "--ramp-ms", 1000)
    r = load(folder, *url, *crowd, "--header", "x-pace-ms: 100")
    exact(r, 2000)
    show("paced 100 ms, 2000 streams", r)
    assert engine.get("/stats")["max_open_streams"] == 2000


def check_unix(folder: Path, path: Path) -> None:
    r = load(folder, "--unix", path, "--connections", 32, "--requests", 64, "--ramp-ms", 500)
    exact(r, 64)
    show("unix socket, 32 streams", r)


def check_disconnects(engine: Engine, folder: Path) -> None:
    before = engine.get("/stats")
    flags = ("--connections", 16, "--requests", 64, "--ramp-ms", 20)
    leave = ("--disconnect-after", 3, "--tag", "gone")
    r = load(folder, "--url", engine.url + CHAT, *flags, *leave)
    assert r["disconnected"] == 64 and r["incomplete"] == 0 and r["tokens"]["seen"] == 64 * 3, r
    aborts = dict(engine.get(f"/aborts?since={r['start_ns']}")["aborts"])
    left = sorted((aborts[tag] - closed) / 1e6 for tag, closed in r["disconnects"])
    after = engine.get("/stats")
    assert after["aborted"] - before["aborted"] == 64 and after["open_streams"] == 0, after
    assert left[-1] < 1000, left
    print(f"64 disconnects: the engine saw them after {left[32]:.3f} ms p50, {left[-1]:.3f} ms max")


# ---- a hostile server ----


def hostile(listener: socket.socket, text: bytes, step: int, cut: bool) -> None:
    """Answers one request in pieces of `step` bytes, each one chunk, with comments between."""
    peer, _ = listener.accept()
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.recv(65536)
    parts = [text[i : i + 7] for i in range(0, len(text), 7)]
    raw = b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n"
    raw += b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    raw += b"transfer-encoding: Chunked\r\n\r\n"
    raw += b"".join(b"%x;ext=1\r\n%s\r\n" % (len(part), part) for part in parts)
    raw += b"" if cut else b"0\r\nTrailer: x\r\n\r\n"
    for i in range(0, len(raw), step):
        peer.sendall(raw[i : i + step])
    peer.close()


def check_reader(folder: Path) -> None:
    def sse(order: list[int], end: str = "\n") -> bytes:
        token = '{{"choices": [{{"delta": {{"content": " t{}"}}, "finish_reason": null}}]}}'
        lines = [f"data: {token.format(i)}{end}{end}: ping{end}{end}" for i in order]
        return "".join([*lines, f"data:[DONE]{end}{end}"]).encode()

    def run(order: list[int], step: int, end: str = "\n", cut: bool = False) -> dict:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            text = sse(order, end)[: -len("data:[DONE]" + 2 * end) if cut else None]
            server = threading.Thread(target=hostile, args=(listener, text, step, cut))
            server.start()
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            r = load(folder, "--url", url, "--tokens", 5)
            server.join()
        return r

    for step in (1, 2, 3, 5, 11, 64, 4096):
        for end in ("\n", "\r\n"):
            r = run([0, 1, 2, 3, 4], step, end)
            exact(r, 1, 5)
            assert r["comments"] == 5 and r["events"] == 6, r
    bad = run([0, 2, 1, 1, 9], 3)["tokens"]  # 3 and 4 lost, 1 late and then doubled, 9 unknown
    assert (bad["lost"], bad["disordered"], bad["duplicated"], bad["foreign"]) == (2, 1, 1, 1), bad
    broken = run([0, 1], 4096, cut=True)
    assert broken["incomplete"] == broken["failed"] == broken["transport_errors"] == 1, broken
    assert broken["tokens"]["missing_in_incomplete"] == 3, broken
    print("hostile server: split at every byte, comments, CRLF, faults counted")


def main() -> None:
    sanitize = "--sanitize" in sys.argv
    given = [a for a in sys.argv[1:] if not a.startswith("--")]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(given[0] if given else temporary)
        folder.mkdir(parents=True, exist_ok=True)
        build(folder, sanitize)
        path = Path(temporary) / "engine.sock"
        with Engine(folder, "--unix", str(path)) as engine:
            check_chat(engine)
            check_resume(engine)
            check_other_routes(engine)
            check_loads(engine, folder, quick_cpu=not sanitize)
            check_unix(folder, path)
            check_disconnects(engine, folder)
        check_reader(folder)
    print("all checks passed")


if __name__ == "__main__":
    main()
