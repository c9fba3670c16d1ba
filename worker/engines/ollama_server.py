"""A running Ollama server: what it has, what it holds in memory, loading and unloading."""

from __future__ import annotations

from typing import Any

import msgspec

from shared.errors import EngineFailed
from worker.engines.upstream import Address, Upstream

DEFAULT_PORT = 11434
DEFAULT_URL = f"http://127.0.0.1:{DEFAULT_PORT}"


class Details(msgspec.Struct, frozen=True):
    format: str = ""
    family: str = ""
    parameter_size: str = ""
    quantization_level: str = ""
    context_length: int = 0


class Offer(msgspec.Struct, frozen=True):
    """One model the server has on disk. `size` in bytes; `digest` changes with its content."""

    name: str
    size: int = 0
    digest: str = ""
    details: Details = Details()
    capabilities: tuple[str, ...] = ()
    """Of completion, tools, insert, vision, embedding, thinking, image, audio."""


class Footprint(msgspec.Struct, frozen=True):
    """What a loaded model takes, in bytes: `size` in all, `size_vram` of it on the device."""

    name: str
    size: int = 0
    size_vram: int = 0
    context_length: int = 0
    expires_at: str = ""


class Offers(msgspec.Struct):
    models: list[Offer] = []


class Loaded(msgspec.Struct):
    models: list[Footprint] = []


class Shown(msgspec.Struct):
    capabilities: list[str] | None = None
    model_info: dict[str, Any] = {}


def full(name: str) -> str:
    """The name as the server lists it: without a tag, `latest` is meant."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def address(url: str | None) -> Address:
    """Where the server listens: a URL, or host and port as OLLAMA_HOST has them."""
    if not url:
        return Address.parse(DEFAULT_URL)
    if "://" not in url:
        url = f"http://{url}" if ":" in url else f"http://{url}:{DEFAULT_PORT}"
    return Address.parse(url)


def trained_context(shown: Shown) -> int:
    """Tokens the model was made for; 0: not told."""
    lengths = [v for key, v in shown.model_info.items() if key.endswith(".context_length")]
    return next((length for length in lengths if isinstance(length, int)), 0)


class OllamaServer:
    """Calls of the control side; each raises upstream.Refused and base.EngineLost."""

    def __init__(self, url: str | None) -> None:
        self.upstream = Upstream(address(url))

    async def catalog(self) -> list[Offer]:
        """Every model of the server, with its capabilities.

        Servers before 2026 do not list the capabilities; each model is asked for then.
        """
        return [
            offer
            if offer.capabilities
            else msgspec.structs.replace(offer, capabilities=await self.capabilities(offer.name))
            for offer in await self.tags()
        ]

    async def tags(self) -> list[Offer]:
        """Every model of the server, as its list has it."""
        reply = await self.upstream.call("GET", "/api/tags")
        return msgspec.json.decode(reply, type=Offers).models

    async def show(self, model: str) -> Shown:
        return msgspec.json.decode(await self._post("/api/show", {"model": model}), type=Shown)

    async def capabilities(self, model: str) -> tuple[str, ...]:
        return tuple((await self.show(model)).capabilities or ())

    async def footprint(self, model: str) -> Footprint | None:
        """What the model takes now; None when it is not loaded."""
        reply = await self.upstream.call("GET", "/api/ps")
        loaded = msgspec.json.decode(reply, type=Loaded).models
        return next((one for one in loaded if full(one.name) == full(model)), None)

    async def load(self, model: str, *, context: int, keep_alive: str, embedding: bool) -> None:
        """Load it, or let a loaded one stay for another `keep_alive`."""
        body: dict[str, Any] = {
            "model": model,
            "keep_alive": keep_alive,
            "options": {"num_ctx": context},
        }
        if embedding:
            await self._post("/api/embed", body | {"input": []})
        else:
            await self._post("/api/generate", body | {"stream": False, "shift": False})

    async def unload(self, model: str) -> None:
        await self._post("/api/generate", {"model": model, "keep_alive": 0, "stream": False})

    async def _post(self, path: str, body: dict[str, Any]) -> bytes:
        return await self.upstream.call("POST", path, msgspec.json.encode(body))


async def catalog(url: str | None = None) -> list[Offer]:
    """The models of the Ollama server at `url`; raises EngineFailed and base.EngineLost."""
    try:
        return await OllamaServer(url).catalog()
    except msgspec.MsgspecError as error:
        raise EngineFailed(f"Ollama's list of models has another shape: {error}") from error
