"""A stand-in for `ollama serve`: its native API in front of real llama.cpp children.

Shapes and sentences are those of Ollama's own server (routes.go, types.go of August 2026): what
it streams, what it answers to empty requests, how it complains.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from shared.settings import Settings
from tests.fakes.ollama_memory import Body, Complaint, Memory, Served, seconds
from tests.fakes.ollama_options import translated
from tests.fakes.ollama_port import Port
from tests.fakes.ollama_reply import Reply, now
from worker.engines.base import EngineLost
from worker.engines.exchange import Refused
from worker.engines.llamacpp_server import LlamaServer

NANOSECONDS = 1_000_000_000
LAST_BYTES = 5.0
"""Seconds that open connections get to close."""
TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; shorten the "
    "prompt, adjust the context length in settings, or use a model with a longer context length"
)


class OllamaDouble(Port):
    """`asked` is every request in order; `break_after` cuts a stream with an error line; what is
    shown of `strange` models has another shape.
    """

    def __init__(self, models: dict[str, Served], settings: Settings) -> None:
        super().__init__()
        self.asked: list[tuple[str, Body]] = []
        self.break_after: int | None = None
        self.digest = "0" * 64
        self.strange: set[str] = set()
        self.memory = Memory(models, settings)
        self._heard = asyncio.Event()
        self._models = models
        self._routes: dict[str, Callable[[Body, Reply], Awaitable[None]]] = {
            "GET /api/version": self._version,
            "GET /api/tags": self._tags,
            "GET /api/ps": self._ps,
            "POST /api/show": self._show,
            "POST /api/chat": self._chat,
            "POST /api/generate": self._generate,
            "POST /api/embed": self._embed,
        }

    async def hears(self, route: str, times: int) -> None:
        """Return once `route` was asked for that many more times."""
        begin = len(self.asked)
        while [asked for asked, _ in self.asked[begin:]].count(route) < times:
            self._heard.clear()
            await self._heard.wait()

    async def answer(self, route: str, body: Body, reply: Reply) -> None:
        self.asked.append((route, body))
        self._heard.set()
        try:
            await self._routes[route](body, reply)
        except KeyError:
            reply.fail(404, f"{route} is not served")
        except Complaint as complaint:
            reply.fail(complaint.status, str(complaint))
        except Refused as refused:
            said = json.loads(refused.body)["error"]
            too_long = said.get("type") == "exceed_context_size_error"
            reply.fail(refused.status, TOO_LONG if too_long else said["message"])
        except EngineLost as error:
            reply.fail(500, f"llama runner process has terminated: {error}")

    async def _version(self, body: Body, reply: Reply) -> None:
        reply.whole(200, {"version": "0.33.0"})

    def _described(self, name: str, served: Served) -> Body:
        return {
            "name": name,
            "model": name,
            "size": self.memory.file(served).stat().st_size,
            "digest": self.digest,
            "details": {
                "parent_model": "",
                "format": "gguf",
                "family": served.family,
                "families": [served.family],
                "parameter_size": "134.52M",
                "quantization_level": "Q8_0",
            },
        }

    async def _tags(self, body: Body, reply: Reply) -> None:
        listed = [
            self._described(name, served)
            | {"modified_at": now()}
            # The newest servers tell the capabilities here, older ones by /api/show alone.
            | ({"capabilities": served.capabilities} if "completion" in served.capabilities else {})
            for name, served in self._models.items()
        ]
        reply.whole(200, {"models": listed})

    async def _ps(self, body: Body, reply: Reply) -> None:
        listed = [
            self._described(name, self._models[name])
            | {
                "size_vram": 0,
                "context_length": held.context,
                "expires_at": held.expires.isoformat().replace("+00:00", "Z"),
            }
            for name, held in self.memory.held.items()
        ]
        reply.whole(200, {"models": listed})

    async def _show(self, body: Body, reply: Reply) -> None:
        name, served = self.memory.find(body)
        family = served.family
        info = {"general.architecture": family, f"{family}.context_length": served.model.context}
        if name in self.strange:
            reply.whole(200, {"capabilities": "completion"})
            return
        shown = {
            "modelfile": f"FROM {name}",
            "template": "{{ .Prompt }}",
            "details": self._described(name, served)["details"],
            "model_info": info,
            "capabilities": served.capabilities,
            "modified_at": now(),
        }
        reply.whole(200, shown)

    def _head(self, body: Body) -> Body:
        return {"model": body["model"], "created_at": now()}

    async def _idle(self, body: Body, verb: str, empty: Body, reply: Reply) -> None:
        """A request without messages or prompt loads the model, with keep_alive 0 unloads it."""
        name, _ = self.memory.find(body)
        unload = body.get("keep_alive") is not None and seconds(body["keep_alive"]) == 0
        if unload:
            await self.memory.unload(name)
        else:
            await self.memory.runner(body, "completion", verb)
        reason = {"done": True, "done_reason": "unload" if unload else "load"}
        reply.whole(200, self._head(body) | empty | reason)

    async def _chat(self, body: Body, reply: Reply) -> None:
        if not body.get("messages"):
            await self._idle(body, "chat", {"message": {"role": "assistant", "content": ""}}, reply)
            return
        _, served = self.memory.find(body)
        for asked, verb in ((body.get("tools"), "tools"), (body.get("think"), "thinking")):
            if asked and verb not in served.capabilities:
                raise Complaint(400, f'"{body["model"]}" does not support {verb}')
        runner = await self.memory.runner(body, "completion", "chat")
        sent = translated(body) | {"messages": body["messages"]}
        if body.get("logprobs"):
            sent |= {"logprobs": True, "top_logprobs": max(1, body.get("top_logprobs", 0))}

        def told(text: str) -> Body:
            return {"message": {"role": "assistant", "content": text}}

        await self._stream(runner, "/v1/chat/completions", sent, body, reply, told)

    async def _generate(self, body: Body, reply: Reply) -> None:
        if not body.get("prompt"):
            await self._idle(body, "generate", {"response": ""}, reply)
            return
        runner = await self.memory.runner(body, "completion", "generate")
        sent = translated(body)
        path = "/v1/completions" if body.get("raw") else "/v1/chat/completions"
        if body.get("raw"):
            sent["prompt"] = body["prompt"]
        else:
            sent["messages"] = [{"role": "user", "content": body["prompt"]}]
        if body.get("logprobs"):
            sent["logprobs"] = max(1, body.get("top_logprobs", 0))
        await self._stream(runner, path, sent, body, reply, lambda text: {"response": text})

    async def _stream(
        self,
        runner: LlamaServer,
        path: str,
        sent: Body,
        body: Body,
        reply: Reply,
        told: Callable[[str], Body],
    ) -> None:
        began = time.monotonic_ns()
        streaming = body.get("stream", True)
        texts: list[str] = []
        reason = "stop"
        usage: Body = {}

        def event(data: bytes) -> None:
            nonlocal reason, usage
            chunk = json.loads(data)
            usage = chunk.get("usage") or usage
            for choice in chunk["choices"]:
                reason = choice.get("finish_reason") or reason
                text = choice["delta"].get("content") if "delta" in choice else choice["text"]
                if not text:
                    continue
                texts.append(text)
                if self.break_after is not None and len(texts) > self.break_after:
                    raise Complaint(500, "an error was encountered while running the model")
                extra = {}
                if choice.get("logprobs"):
                    extra["logprobs"] = choice["logprobs"]["content"]
                if streaming:
                    reply.line(self._head(body) | told(text) | {"done": False} | extra)

        data = json.dumps(sent).encode()
        await runner.upstream.stream(path, data, event, lambda source: None)
        spent = time.monotonic_ns() - began
        last = self._head(body) | told("" if streaming else "".join(texts))
        last |= {"done": True, "done_reason": reason, "total_duration": spent, "load_duration": 1}
        last |= {"prompt_eval_duration": spent // 2, "eval_duration": spent // 2}
        last["prompt_eval_count"] = usage["prompt_tokens"]
        last["eval_count"] = usage["completion_tokens"]
        if streaming:
            reply.line(last)
            reply.end()
        else:
            reply.whole(200, last)

    async def _embed(self, body: Body, reply: Reply) -> None:
        given = body.get("input")
        inputs = ([given] if given else []) if isinstance(given, str) else given or []
        if any(not isinstance(text, str) for text in inputs):
            raise Complaint(400, "invalid input type")
        runner = await self.memory.runner(body)
        if not inputs:
            reply.whole(200, {"model": body["model"], "embeddings": []})
            return
        sent = json.dumps({"input": inputs, "encoding_format": "float"}).encode()
        try:
            answer = json.loads(await runner.upstream.call("POST", "/v1/embeddings", sent))
        except Refused:
            raise Complaint(400, "the input length exceeds the context length") from None
        rows = [row["embedding"] for row in sorted(answer["data"], key=lambda row: row["index"])]
        width = body.get("dimensions") or len(rows[0])
        reply.whole(
            200,
            {
                "model": body["model"],
                "embeddings": [shortened(row, width) for row in rows],
                "total_duration": NANOSECONDS,
                "load_duration": 1,
                "prompt_eval_count": answer["usage"]["prompt_tokens"],
            },
        )


def shortened(row: list[float], width: int) -> list[float]:
    cut = row[:width]
    length = sum(value * value for value in cut) ** 0.5
    return [value / length for value in cut]


@asynccontextmanager
async def ollama_double(
    models: dict[str, Served], settings: Settings
) -> AsyncIterator[OllamaDouble]:
    """A running one; its children end with it."""
    double = OllamaDouble(models, settings)
    await double.listen()
    try:
        yield double
    finally:
        double.hang_up()
        await double.memory.close()
        if double.connections:
            await asyncio.wait(double.connections, timeout=LAST_BYTES)
        await double.closed()
