"""A model of an Ollama server that the user runs."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Sequence
from typing import Any

import msgspec

from shared import log
from shared.errors import EngineFailed, InvalidValue, UnsupportedValue
from shared.settings import Model, Settings
from shared.wire.event import Usage, Vectors
from shared.wire.node import LoadProgress
from worker.engines import ollama_shape
from worker.engines.base import EngineLost, Generation, Sink, Sleepless, Unadaptable
from worker.engines.cl100k import FILE_NAME, RANKS, Cl100k
from worker.engines.exchange import Refused
from worker.engines.ollama_refusal import from_reply
from worker.engines.ollama_server import Footprint, OllamaServer
from worker.engines.ollama_stream import LineSink
from worker.engines.refusal import Subject, clean, complaint
from worker.engines.resuming import continue_behind
from worker.engines.toolcalls import CallReader
from worker.engines.upstream import EngineUnreachable

START_TIMEOUT = 300.0
STOP_TIMEOUT = 10.0
LEASE = "10m"
"""How long the server keeps the model when we are gone without a word."""
RENEWAL = 120.0
"""Seconds between two renewals of the lease, which also notice that the server went away."""
PATHS = {"chat": "/api/chat", "completion": "/api/generate"}
SUBJECTS: dict[str, Subject] = {"chat": "messages", "completion": "prompt"}


class Embedded(msgspec.Struct):
    embeddings: list[list[float]]
    prompt_eval_count: int = 0


class Ollama(Sleepless, Unadaptable):
    """A base.Engine. `start` loads the model in the server, `stop` unloads it there.

    A resumed chat is continued as a prefilled assistant message; its earlier pieces are taken for
    one token each. An answer held to a schema cannot be continued: Ollama would begin it anew.
    """

    def __init__(
        self, name: str, model: Model, settings: Settings, *, renewal: float = RENEWAL
    ) -> None:
        self._name = name
        self._model = model
        self._theirs = model.upstream_model or name
        self._server = OllamaServer(model.url)
        self._capabilities: frozenset[str] = frozenset()
        ranks = settings.folder / "models" / FILE_NAME
        self._foreign = Cl100k(ranks) if model.token_input == "cl100k" else None
        self._renewal = renewal
        self._keeper: asyncio.Task[None] | None = None
        self._loading = False
        self._over = asyncio.Event()
        self._log = log.get("ollama")

    @property
    def alive(self) -> bool:
        return self._keeper is not None and not self._over.is_set()

    def pids(self) -> list[int]:
        """None: the processes are Ollama's own; see `footprint`."""
        return []

    def progress(self) -> LoadProgress | None:
        """Ollama does not tell how much of a model it has read."""
        return LoadProgress("loading in Ollama") if self._loading else None

    async def footprint(self) -> Footprint | None:
        """Bytes the model takes in the server, None when it is not loaded; raises EngineLost."""
        try:
            return await self._server.footprint(self._theirs)
        except Refused as refused:
            raise EngineLost(f"the server does not tell what it holds: {refused}") from refused

    async def start(self) -> None:
        if self.alive:
            return
        await self._forget()
        self._loading = True
        try:
            async with asyncio.timeout(START_TIMEOUT):
                self._capabilities = frozenset(await self._server.capabilities(self._theirs))
                await self._load()
        except TimeoutError:
            raise EngineFailed(f"Ollama did not load {self._name} in time.") from None
        except Refused as refused:
            said = clean(complaint(refused.body).message)
            hint = f" `ollama pull {self._theirs}` fetches it." if refused.status == 404 else ""
            raise EngineFailed(f"Ollama cannot load {self._name}: {said}.{hint}") from None
        except (EngineLost, msgspec.MsgspecError) as error:
            raise EngineFailed(f"Ollama does not answer for {self._name}: {error}") from error
        finally:
            self._loading = False
        self._over = asyncio.Event()
        self._keeper = asyncio.create_task(self._keep(), name=f"ollama-{self._name}")

    async def stop(self) -> None:
        loaded = self.alive
        await self._forget()
        if not loaded:
            return
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await self._server.unload(self._theirs)
        except (TimeoutError, EngineLost, Refused) as error:
            self._log.warning("not unloaded", model=self._name, error=str(error), kept_for=LEASE)

    async def ended(self) -> None:
        await self._over.wait()

    async def generate(self, generation: Generation, sink: Sink) -> Usage:
        self.refuse_adapter(generation)
        shaped = self._shape(generation)
        if shaped.echo and not generation.resume:
            sink.text(shaped.echo)
        body: dict[str, Any] = self._addressed(shaped.body)
        resume = generation.resume[len(shaped.echo) :]
        spent = 0
        if resume:
            if "format" in body:
                raise EngineLost("an answer in a format cannot be continued")
            spent = max(0, generation.pieces - bool(shaped.echo))
            continue_behind(body, resume, spent)
            if "num_predict" in body["options"]:
                body["options"]["num_predict"] -= spent
        if body["options"].get("num_predict", 1) <= 0:
            sink.finish("length")
            return Usage(0, spent)
        usage = await self._stream(generation.kind, shaped, body, sink)
        return Usage(max(0, usage.prompt - spent), usage.completion + spent)

    async def embed(self, inputs: list[str] | list[list[int]], dimensions: int | None) -> Vectors:
        items: Sequence[str | list[int]] = inputs
        texts = [self._readable(item, at) for at, item in enumerate(items)]
        body = self._addressed({"input": texts, "truncate": False, "options": {}})
        if dimensions is not None:
            body["dimensions"] = dimensions
        try:
            reply = await self._server.upstream.call(
                "POST", "/api/embed", msgspec.json.encode(body)
            )
        except Refused as refused:
            raise from_reply(refused.status, refused.body, "input") from None
        except EngineUnreachable:
            self._over.set()
            raise
        try:
            embedded = msgspec.json.decode(reply, type=Embedded)
        except msgspec.MsgspecError as error:
            raise EngineFailed(f"Ollama's embeddings have another shape: {error}") from error
        rows = embedded.embeddings
        width = len(rows[0]) if rows else 0
        if len(rows) != len(texts) or any(len(row) != width for row in rows):
            raise EngineFailed("Ollama's embeddings do not match their inputs.")
        if dimensions not in (None, width):
            raise InvalidValue(f"This model's vectors have {width} dimensions.", param="dimensions")
        data = b"".join(struct.pack(f"<{width}f", *row) for row in rows)
        return Vectors(len(rows), width, data, Usage(embedded.prompt_eval_count))

    def _shape(self, generation: Generation) -> ollama_shape.Shaped:
        if generation.kind == "chat":
            return ollama_shape.chat(generation.body, self._capabilities)
        return ollama_shape.completion(generation.body, len(generation.resume))

    def _addressed(self, body: dict[str, Any]) -> dict[str, Any]:
        options = body["options"] | {"num_ctx": self._model.context}
        return body | {"model": self._theirs, "keep_alive": LEASE, "options": options}

    async def _stream(
        self, kind: str, shaped: ollama_shape.Shaped, body: dict[str, Any], sink: Sink
    ) -> Usage:
        subject = SUBJECTS[kind]
        lines = LineSink(
            sink,
            calls=CallReader() if shaped.forced else None,
            logprobs=shaped.logprobs,
            subject=subject,
        )
        data = msgspec.json.encode(body)
        try:
            await self._server.upstream.stream(PATHS[kind], data, lines.take, sink.attach)
        except Refused as refused:
            raise from_reply(refused.status, refused.body, subject, shaped.schema_param) from None
        except EngineUnreachable:
            self._over.set()
            raise
        return lines.close()

    def _readable(self, item: str | list[int], at: int) -> str:
        if isinstance(item, str):
            return item
        if self._foreign is None:
            raise UnsupportedValue("This model embeds text, not token ids.", param=f"input[{at}]")
        try:
            return self._foreign.decode(item)
        except IndexError:
            raise InvalidValue(
                f"A token id is out of range; cl100k_base has 0 to {RANKS - 1}.",
                param=f"input[{at}]",
            ) from None

    async def _load(self) -> None:
        await self._server.load(
            self._theirs,
            context=self._model.context,
            keep_alive=LEASE,
            embedding=self._model.kind == "embedding",
        )

    async def _keep(self) -> None:
        """Renew the lease of a loaded model. One that Ollama evicted the next request loads."""
        try:
            while True:
                await asyncio.sleep(self._renewal)
                if await self._server.footprint(self._theirs) is not None:
                    await self._load()
        except (EngineLost, Refused, msgspec.MsgspecError) as error:
            self._log.error("engine died", model=self._name, error=str(error))
        finally:
            self._over.set()

    async def _forget(self) -> None:
        self._over.set()
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper
