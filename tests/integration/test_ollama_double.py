"""The stand-in for `ollama serve` answers as the official client expects."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import ollama
import pytest

from shared.settings import Settings
from tests.asking import TELL
from tests.fakes.ollama import OllamaDouble, ollama_double
from tests.fakes.ollama_disk import CHAT, DISK, EMBEDDING


@pytest.fixture(scope="module")
def settings(lent: Path) -> Settings:
    return Settings(home=str(lent))


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[OllamaDouble]:
    async with ollama_double(dict(DISK), settings) as double:
        yield double


async def test_the_stand_in_satisfies_the_official_client(server: OllamaDouble) -> None:
    client = ollama.AsyncClient(host=server.url)
    listed = (await client.list()).models
    assert [one.model for one in listed] == [CHAT, f"{EMBEDDING}:latest"]
    assert all(one.size and one.details and one.details.format == "gguf" for one in listed)
    assert (await client.show(EMBEDDING)).capabilities == ["embedding"]
    options = {"num_predict": 6, "temperature": 0, "num_ctx": 512}
    parts = [
        part
        async for part in await client.chat(CHAT, TELL, stream=True, options=options, logprobs=True)
    ]
    whole = await client.chat(CHAT, TELL, options=options)
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[0].logprobs and parts[0].logprobs[0].logprob <= 0
    assert (parts[-1].done_reason, parts[-1].eval_count) == ("length", 6)
    assert parts[-1].prompt_eval_count == whole.prompt_eval_count
    running = (await client.ps()).models
    assert [(one.model, one.context_length) for one in running] == [(CHAT, 512)]
    assert running[0].expires_at is not None
    told = await client.generate(CHAT, "Once upon a", raw=True, options=options)
    assert told.response.startswith(" time")
    assert (await client.generate(CHAT, keep_alive=0)).done_reason == "unload"
    assert (await client.generate(CHAT, options=options)).done_reason == "load"
    embedded = await client.embed(EMBEDDING, ["one", "two"], options={"num_ctx": 512})
    assert [len(row) for row in embedded.embeddings] == [384, 384]
    for call in (client.show("nothing"), client.generate("nothing", "x")):
        with pytest.raises(ollama.ResponseError, match="model 'nothing' not found") as missing:
            await call
        assert missing.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="does not support chat") as refused:
        await client.chat(EMBEDDING, TELL)
    assert refused.value.status_code == 400
