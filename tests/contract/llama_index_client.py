"""Run by the interpreter that has LlamaIndex: talks to a hub and prints what it saw as JSON.

Its release wants an older openai than the one the other contract tests use.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from llama_index.core.llms import ChatMessage
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike


async def use(base_url: str, key: str, chat_model: str, embedding_model: str) -> dict[str, Any]:
    common = {"api_base": base_url, "api_key": key, "max_retries": 0}
    chat = OpenAILike(
        model=chat_model,
        is_chat_model=True,
        context_window=2048,
        max_tokens=24,
        temperature=0,
        **common,
    )
    text = OpenAILike(
        model=chat_model,
        is_chat_model=False,
        context_window=2048,
        max_tokens=24,
        temperature=0,
        **common,
    )
    embeddings = OpenAILikeEmbedding(model_name=embedding_model, **common)
    ask = [ChatMessage(role="user", content="Name one colour.")]
    prompt = "One, two, three,"
    return {
        "chat": chat.chat(ask).message.content,
        "chat_stream": "".join(piece.delta or "" for piece in chat.stream_chat(ask)),
        "achat": (await chat.achat(ask)).message.content,
        "achat_stream": "".join([p.delta or "" async for p in await chat.astream_chat(ask)]),
        "text": text.complete(prompt).text,
        "text_stream": "".join(piece.delta or "" for piece in text.stream_complete(prompt)),
        "query": embeddings.get_query_embedding("a cat"),
        "batch": embeddings.get_text_embedding_batch(["a cat", "a dog"]),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(use(*sys.argv[1:]))))
