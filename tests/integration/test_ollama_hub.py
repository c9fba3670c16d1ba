"""A hub whose models are those of an Ollama server: from the OpenAI client to the weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from shared.settings import Settings
from tests.fakes.ollama_apart import Apart, ollama_apart
from tests.fakes.ollama_disk import DISK
from tests.hub import running_hub

COUNT = [{"role": "user", "content": "Count from one to twenty in words."}]


@pytest.fixture(scope="module")
def server(lent: Path) -> Iterator[Apart]:
    with ollama_apart(DISK, Settings(home=str(lent))) as running:
        yield running


def test_chat_and_embeddings_through_the_hub(server: Apart) -> None:
    toml = (
        f'[models."smollm2:135m"]\nengine = "ollama"\nurl = "{server.url}"\ncontext = 1024\n'
        f'[models.minilm]\nengine = "ollama"\nurl = "{server.url}"\nkind = "embedding"\n'
        'upstream_model = "all-minilm"\ncontext = 512\n'
    )
    with running_hub(toml) as hub:
        client = openai.OpenAI(base_url=hub.base_url, api_key=hub.key, max_retries=0)
        assert {model.id for model in client.models.list()} >= {"smollm2:135m", "minilm"}
        asked = {"model": "smollm2:135m", "messages": COUNT, "max_tokens": 10, "temperature": 0}
        whole = client.chat.completions.create(**asked)
        parts = list(
            client.chat.completions.create(
                **asked, stream=True, stream_options={"include_usage": True}
            )
        )
        text = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
        assert text == whole.choices[0].message.content
        assert parts[-1].usage == whole.usage
        assert whole.usage is not None
        assert whole.usage.completion_tokens == 10
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(**asked, logit_bias={"42": 100})
        assert refused.value.param == "logit_bias"
        rows = client.embeddings.create(model="minilm", input=["one", "two"]).data
        assert [len(row.embedding) for row in rows] == [384, 384]
        assert set(server.memory.held) == set(DISK)
    assert not server.memory.held, "a hub that stops leaves nothing loaded"
