"""Which requests count as the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.cache.canonical import canonical, digest, repeats
from shared.catalog import Entry
from shared.settings import Model
from shared.wire.task import Adapter, Kind

ASK = [{"role": "user", "content": "Why?"}]
MODEL = Model(engine="openai", url="http://h/v1")
ENTRY = Entry("m", MODEL, "m")


def chat(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": ASK, **fields}).encode()


def same(kind: Kind, one: bytes, other: bytes, **defaults: float) -> bool:
    return canonical(kind, one, defaults) == canonical(kind, other, defaults)


@pytest.mark.parametrize(
    "fields",
    [
        {"stream": True, "stream_options": {"include_usage": True}},
        {"user": "u", "metadata": {"a": "b"}, "store": True, "service_tier": "flex"},
        {"n": 1, "logprobs": False, "temperature": None},
        {"model": "another name of it"},
    ],
)
def test_what_makes_no_difference(fields: Any) -> None:
    assert same("chat", chat(), chat(**fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 2},
        {"logprobs": True},
        {"temperature": 0},
        {"max_tokens": 5},
        {"tools": []},
        {"messages": [*ASK, *ASK]},
        {"messages": [{"role": "user", "content": "Why? "}]},
        {"an_engines_own": 1},
    ],
)
def test_what_makes_one(fields: Any) -> None:
    assert not same("chat", chat(), chat(**fields))


def test_one_request_in_several_spellings() -> None:
    assert same("chat", chat(seed=1, stop="x"), chat(stop=["x"], seed=1.0))
    assert same("chat", chat(max_tokens=4), chat(max_completion_tokens=4))
    assert same("chat", b'{"messages": [], "seed": 1}', b'{"seed":1,"messages":[ ]}')
    assert same("chat", b'{"messages": "\\u00e9"}', '{"messages": "é"}'.encode())
    assert same("completion", b'{"prompt": "a"}', b'{"prompt": ["a"]}')
    assert same("completion", b'{"prompt": [1, 2]}', b'{"prompt": [[1, 2]]}')
    assert not same("completion", b'{"prompt": ["a", "b"]}', b'{"prompt": ["b", "a"]}')
    assert same("embedding", b'{"input": "a"}', b'{"input": ["a"], "encoding_format": "float"}')
    assert not same("embedding", b'{"input": "a"}', b'{"input": "a", "dimensions": 3}')


def test_defaults_are_filled_in() -> None:
    assert same("chat", chat(), chat(temperature=0.5), temperature=0.5)
    assert same("chat", chat(), chat(temperature=1), temperature=1.0)
    assert not same("chat", chat(), chat(temperature=0.4), temperature=0.5)


def named(
    kind: Kind = "chat",
    entry: Entry = ENTRY,
    body: bytes = chat(),
    project: str = "p",
    fingerprint: str = "f",
    identity: str = "i",
) -> str:
    return digest(kind, entry, body, project=project, fingerprint=fingerprint, identity=identity)


def test_all_that_an_answer_depends_on_names_its_place() -> None:
    law = [Entry("law", MODEL, "m", Adapter(f"law@{version}", "/law")) for version in (1, 2)]
    other_path = Entry("law", MODEL, "m", Adapter("law@1", "/other"))
    names = [
        named(),
        named(kind="completion"),
        named(entry=Entry("n", MODEL, "n")),
        *(named(entry=entry) for entry in (*law, other_path)),
        named(body=chat(seed=1)),
        named(project="q"),
        named(fingerprint="g"),
        named(identity="j"),
        named(project="pf", fingerprint=""),
    ]
    assert len(set(names)) == len(names)
    assert named(entry=ENTRY._replace(name="alias")) == named()


@pytest.mark.parametrize(
    ("kind", "temperature", "defaults", "told"),
    [
        ("embedding", None, {}, True),
        ("chat", 0.0, {"temperature": 1}, True),
        ("chat", None, {"temperature": 0.0}, True),
        ("completion", 0.1, {"temperature": 0}, False),
        ("chat", None, {}, False),
    ],
)
def test_what_another_try_would_repeat(
    kind: Kind, temperature: float | None, defaults: dict[str, float], *, told: bool
) -> None:
    assert repeats(kind, temperature, defaults) is told
