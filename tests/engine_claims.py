"""What an engine that answers in words must do, whichever it is.

The tests of an engine subclass these and offer it as the fixture `base`: with the chat model,
four places and a context of 1024 tokens.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Protocol

import pytest

from shared.errors import InvalidValue, ModelUnavailable
from shared.wire.event import Usage
from tests import adapters
from tests.asking import FORM, TELL, TOOLS, WEATHER, Generator, Watched, ask, generation

NAMED = {"type": "function", "function": {"name": "get_weather"}}


class Answers:
    async def test_streams_counts_and_stops(self, base: Generator) -> None:
        sink, usage = await ask(base, max_tokens=12)
        assert len(sink.texts) > 6
        assert sink.reasons == ["length"]
        assert usage.completion == 12
        assert usage.prompt > 20
        again, same = await ask(base, max_tokens=12)
        assert (again.content, same.prompt) == (sink.content, usage.prompt)
        word = sink.content[6:10]
        stopped, _ = await ask(base, max_tokens=12, stop=[word])
        assert stopped.content == sink.content.partition(word)[0]
        assert stopped.reasons == ["stop"]
        bounded, _ = await ask(base, max_tokens=9_000, stop=[word])
        assert bounded.content == stopped.content

    async def test_more_than_its_places(self, base: Generator) -> None:
        sizes = [3, 30, 7, 18, 1, 12]
        asked = (ask(base, prompt="Once upon a", max_tokens=n) for n in sizes)
        replies = await asyncio.gather(*asked)
        assert [usage.completion for _, usage in replies] == sizes

    async def test_cancelled_requests_leave_room(self, base: Generator) -> None:
        sinks = [Watched() for _ in range(4)]
        long = generation(max_tokens=900, ignore_eos=True)
        tasks = [asyncio.create_task(base.generate(long, sink)) for sink in sinks]
        async with asyncio.timeout(60):
            await asyncio.gather(*(sink.begun.wait() for sink in sinks))
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ends)
        # There are four places, and 900 tokens in each of them take longer than this.
        async with asyncio.timeout(6):
            await ask(base, max_tokens=1)
        assert all(not sink.reasons for sink in sinks)

    async def test_heat_and_seeds(self, base: Generator) -> None:
        hot: dict[str, Any] = {"temperature": 1.8, "max_tokens": 16}
        one, _ = await ask(base, seed=7, **hot)
        other, _ = await ask(base, seed=8, **hot)
        assert one.content != other.content

    async def test_logprobs(self, base: Generator) -> None:
        sink, _ = await ask(base, max_tokens=3, logprobs=True, top_logprobs=2)
        tokens = [token for given in sink.logprobs for token in given["content"]]
        assert [len(token["top_logprobs"]) for token in tokens] == [2, 2, 2]
        assert all(set(token) == {"token", "logprob", "bytes", "top_logprobs"} for token in tokens)
        assert all(token["token"] == token["top_logprobs"][0]["token"] for token in tokens)
        assert all(-9 < token["logprob"] <= 0 for token in tokens)
        assert "".join(token["token"] for token in tokens) == sink.raw

    async def test_structured_output(self, base: Generator) -> None:
        sink, _ = await ask(base, messages=WEATHER, response_format=FORM, max_tokens=100)
        answer = json.loads(sink.content)
        assert set(answer) == {"city", "sunny"}
        assert answer["city"] in ("Paris", "Rome")
        form = {"type": "json_object"}
        sink, _ = await ask(base, messages=WEATHER, response_format=form, max_tokens=200)
        assert sink.content.lstrip().startswith("{")
        if sink.reasons == ["stop"]:
            assert isinstance(json.loads(sink.content), dict)

    async def test_forced_tools(self, base: Generator) -> None:
        for choice in ("required", NAMED):
            sink, _ = await ask(
                base, messages=WEATHER, tools=TOOLS, tool_choice=choice, max_tokens=120
            )
            assert (sink.reasons, sink.texts) == (["tool_calls"], [])
            assert sink.fragments[0]["function"]["name"] == "get_weather"
            assert set(json.loads(sink.arguments)) == {"city"}
        optional, _ = await ask(base, messages=WEATHER, tools=TOOLS, max_tokens=4)
        assert len(optional.content) > 4


class GoesOn:
    """Behind any text, also in the middle of what a grammar forces."""

    async def test_resumed_text_is_counted_and_not_repeated(self, base: Generator) -> None:
        whole, usage = await ask(base, max_tokens=16)
        at = len("".join(whole.texts[:6]))
        rest, counted = await ask(base, max_tokens=16, resume=whole.content[:at])
        assert whole.content[:at] + rest.content == whole.content
        assert (counted.prompt, counted.completion) == (usage.prompt, 16)
        nothing, counted = await ask(base, max_tokens=6, resume=whole.content[:at])
        assert (nothing.texts, nothing.reasons) == ([], ["length"])
        assert counted == Usage(usage.prompt, 6)

    async def test_an_echo_goes_on(self, base: Generator) -> None:
        asked: dict[str, Any] = {"prompt": "Once upon a", "max_tokens": 6, "echo": True}
        text, usage = await ask(base, **asked)
        assert text.content.startswith("Once upon a time")
        rest, counted = await ask(base, resume="Once upon a time", **asked)
        assert "Once upon a time" + rest.content == text.content
        assert (counted.prompt, counted.completion) == (usage.prompt, usage.completion)

    async def test_a_form_goes_on(self, base: Generator) -> None:
        asked: dict[str, Any] = {"messages": WEATHER, "response_format": FORM, "max_tokens": 100}
        sink, usage = await ask(base, **asked)
        cut = len(sink.content) // 2
        rest, counted = await ask(base, resume=sink.content[:cut], **asked)
        assert json.loads(sink.content[:cut] + rest.content) == json.loads(sink.content)
        assert counted.prompt == usage.prompt

    async def test_a_forced_tool_goes_on(self, base: Generator) -> None:
        asked: dict[str, Any] = {
            "messages": WEATHER,
            "tools": TOOLS,
            "tool_choice": NAMED,
            "max_tokens": 120,
        }
        sink, _ = await ask(base, **asked)
        assert sink.fragments[0]["function"] == {"name": "get_weather", "arguments": ""}
        cut = sink.raw.index("city") + 2
        rest, _ = await ask(base, resume=sink.raw[:cut], **asked)
        assert all("id" not in fragment for fragment in rest.fragments)
        given = sink.raw[:cut].partition('"arguments":')[2].lstrip()
        assert set(json.loads(given + rest.arguments)) == {"city"}

    async def test_nothing_is_asked_for(self, base: Generator) -> None:
        _, usage = await ask(base, messages=TELL, max_tokens=1)
        none, counted = await ask(base, messages=TELL, max_tokens=0)
        assert (none.raw, none.reasons) == ("", ["length"])
        assert (counted.prompt, counted.completion) == (usage.prompt, 0)


class Counts:
    """What it has used, at any moment: who leaves in the middle pays for it."""

    async def test_tokens_are_told_as_they_come(self, base: Generator) -> None:
        whole, usage = await ask(base, max_tokens=12)
        completions = [told.completion for told in whole.counts]
        assert completions == sorted(completions)
        assert len(set(completions)) > 6
        assert {told.prompt for told in whole.counts} == {usage.prompt}
        assert whole.counts[-1].completion == usage.completion == 12
        at = len("".join(whole.texts[:6]))
        rest, counted = await ask(base, max_tokens=12, resume=whole.content[:at])
        assert rest.counts[0].completion > 4
        assert rest.counts[-1].completion == counted.completion == 12
        assert {told.prompt for told in rest.counts} == {usage.prompt}


class Adaptable(Generator, Protocol):
    """One that takes adapters while it runs."""

    async def load_adapter(self, name: str, path: str) -> None: ...

    async def unload_adapter(self, name: str) -> None: ...


class Adapts:
    async def test_adapters_come_and_go(self, base: Adaptable, tmp_path: Path) -> None:
        one, two = (str(adapters.strong(tmp_path / str(seed), seed)) for seed in (1, 2))
        plain, _ = await ask(base, max_tokens=10)
        with pytest.raises(ModelUnavailable):
            await ask(base, adapter="mine-1", max_tokens=10)
        running = Watched()
        task = asyncio.create_task(base.generate(generation(max_tokens=60), running))
        await running.begun.wait()
        await base.load_adapter("mine-1", one)
        await base.load_adapter("mine-1", one)
        first, usage = await ask(base, adapter="mine-1", max_tokens=10)
        await base.load_adapter("mine.2", two)
        second, _ = await ask(base, adapter="mine.2", max_tokens=10)
        assert len({plain.content, first.content, second.content}) == 3
        assert usage.prompt > 20
        await task
        assert running.content.startswith(plain.content)
        mixed = await asyncio.gather(
            *(ask(base, adapter=name, max_tokens=10) for name in (None, "mine-1", "mine.2", None))
        )
        lone = [plain.content, first.content, second.content, plain.content]
        assert [sink.content for sink, _ in mixed] == lone
        with pytest.raises(InvalidValue, match="another version"):
            await base.load_adapter("mine-1", two)
        await base.unload_adapter("mine-1")
        await base.unload_adapter("mine-1")
        with pytest.raises(ModelUnavailable):
            await ask(base, adapter="mine-1", max_tokens=10)
        again, _ = await ask(base, adapter="mine.2", max_tokens=10)
        assert again.content == second.content
        await base.load_adapter("mine-1", one)
        back, _ = await ask(base, adapter="mine-1", max_tokens=10)
        assert back.content == first.content
        for name in ("mine-1", "mine.2"):
            await base.unload_adapter(name)
        after, _ = await ask(base, max_tokens=10)
        assert after.content == plain.content
