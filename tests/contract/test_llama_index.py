"""LlamaIndex's OpenAILike and OpenAILikeEmbedding, unmodified, in an environment of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub import Hub

PYTHON = Path(sys.prefix) / "clients" / "llama-index" / "bin" / "python"
CLIENT = Path(__file__).with_name("llama_index_client.py")


def test_llama_index(hub: Hub) -> None:
    done = subprocess.run(
        [PYTHON, CLIENT, hub.base_url, hub.key, hub.chat_model, hub.embedding_model],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["chat"]
    assert seen["chat"] == seen["chat_stream"] == seen["achat"] == seen["achat_stream"]
    assert seen["text"]
    assert seen["text"] == seen["text_stream"]
    assert len(seen["query"]) == 384
    assert seen["batch"][0] == pytest.approx(seen["query"], abs=1e-5)
