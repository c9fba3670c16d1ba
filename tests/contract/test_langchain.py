"""LangChain's ChatOpenAI and OpenAIEmbeddings, unmodified."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal, NamedTuple

import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from openai import DefaultAsyncHttpxClient, DefaultHttpxClient
from pydantic import BaseModel, SecretStr

from tests import models
from tests.hub import Hub

CL100K = "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"
"""The name tiktoken keeps that vocabulary under."""


class Pick(BaseModel):
    """A colour."""

    colour: Literal["red", "green", "blue"]


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Connections(NamedTuple):
    """LangChain never closes the clients it makes itself."""

    plain: DefaultHttpxClient
    asynchronous: DefaultAsyncHttpxClient


@pytest.fixture
async def connections() -> AsyncIterator[Connections]:
    with DefaultHttpxClient() as plain:
        async with DefaultAsyncHttpxClient() as asynchronous:
            yield Connections(plain, asynchronous)


@pytest.fixture
def chat(hub: Hub, connections: Connections) -> ChatOpenAI:
    return ChatOpenAI(
        http_client=connections.plain,
        http_async_client=connections.asynchronous,
        base_url=hub.base_url,
        api_key=SecretStr(hub.key),
        model=hub.chat_model,
        temperature=0,
        max_completion_tokens=64,
        max_retries=0,
    )


@pytest.fixture
def embeddings(
    hub: Hub, connections: Connections, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> OpenAIEmbeddings:
    shutil.copy(models.folder() / "cl100k_base.tiktoken", tmp_path / CL100K)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    return OpenAIEmbeddings(
        http_client=connections.plain,
        http_async_client=connections.asynchronous,
        base_url=hub.base_url,
        api_key=SecretStr(hub.key),
        model=hub.embedding_model,
        max_retries=0,
    )


def test_invoke_and_stream_agree(chat: ChatOpenAI) -> None:
    whole = chat.invoke("Name one colour.")
    assert isinstance(whole, AIMessage)
    assert whole.usage_metadata is not None
    pieces = list(chat.stream("Name one colour.", stream_usage=True))
    assert "".join(str(piece.content) for piece in pieces) == whole.content
    counted = [piece.usage_metadata for piece in pieces if piece.usage_metadata]
    assert counted[-1]["output_tokens"] == whole.usage_metadata["output_tokens"]


async def test_the_asynchronous_calls(chat: ChatOpenAI) -> None:
    whole = await chat.ainvoke("Name one colour.")
    pieces = [str(piece.content) async for piece in chat.astream("Name one colour.")]
    assert "".join(pieces) == whole.content


def test_structured_output(chat: ChatOpenAI) -> None:
    picked = chat.with_structured_output(Pick, method="json_schema").invoke("Pick a colour.")
    assert isinstance(picked, Pick)


def test_a_forced_tool(chat: ChatOpenAI) -> None:
    answer = chat.bind_tools([add], tool_choice="add").invoke("What is 2 + 3?")
    assert isinstance(answer, AIMessage)
    assert [call["name"] for call in answer.tool_calls] == ["add"]
    assert set(answer.tool_calls[0]["args"]) == {"a", "b"}


def test_embeddings_of_token_arrays_equal_those_of_text(
    embeddings: OpenAIEmbeddings, connections: Connections, hub: Hub
) -> None:
    text = "The cat sat on the mat."
    plain = OpenAIEmbeddings(
        http_client=connections.plain,
        http_async_client=connections.asynchronous,
        base_url=hub.base_url,
        api_key=SecretStr(hub.key),
        model=hub.embedding_model,
        check_embedding_ctx_length=False,
    )
    assert embeddings.embed_query(text) == pytest.approx(plain.embed_query(text), abs=1e-5)


def test_many_documents(embeddings: OpenAIEmbeddings) -> None:
    vectors = embeddings.embed_documents([f"document {number}" for number in range(40)])
    assert len(vectors) == 40
    assert {len(vector) for vector in vectors} == {384}


async def test_embeddings_asynchronously(embeddings: OpenAIEmbeddings) -> None:
    assert len(await embeddings.aembed_query("a")) == 384
