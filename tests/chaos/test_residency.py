"""Three models in room for two, eight callers, and engines that are killed at random."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, NamedTuple

import pytest
from openai import DefaultHttpxClient, OpenAI

from shared.footprint import SETTLED
from tests import models
from tests.chaos.residency import (
    LARGE,
    LIBRARIES,
    MEMORY,
    MIB,
    SMALL,
    TOLERANCE,
    TOML,
    UNFILLED,
    Books,
    Lookout,
    engines,
    settled,
)
from tests.hub import Hub, alive, running_hub

SEED = 20261123
CLIENTS, REQUESTS, KILLS = 8, 200, 6
TOKENS = 8
QUESTIONS = (
    "Name the capital of France.",
    "Count from one to five.",
    "What is the opposite of hot?",
    "Say the days of the week.",
)
TEXTS = ("a cat on a mat", "the stock market fell", "a dog in the fog", "rain in the mountains")


Answer = str | list[float]


class Ask(NamedTuple):
    model: str
    about: str
    stream: bool


Answers = dict[tuple[str, str], Answer]
"""By model and what it is asked."""


class Caller:
    """One client of the hub. `retries` counts answers that it had to ask for again."""

    def __init__(self, hub: Hub) -> None:
        self.retries = 0
        http = DefaultHttpxClient(event_hooks={"response": [self._count]}, timeout=120)
        self._openai = OpenAI(base_url=hub.base_url, api_key=hub.key, http_client=http)

    def _count(self, reply: Any) -> None:
        """`reply`: of whichever httpx the client brings."""
        self.retries += reply.status_code != 200

    def close(self) -> None:
        self._openai.close()

    def ask(self, ask: Ask) -> Answer:
        if ask.model == models.EMBEDDING:
            found = self._openai.embeddings.create(
                model=ask.model, input=ask.about, encoding_format="float"
            )
            return found.data[0].embedding
        messages = [{"role": "user", "content": ask.about}]
        if not ask.stream:
            reply = self._openai.chat.completions.create(
                model=ask.model, messages=messages, max_tokens=TOKENS, temperature=0
            )
            return reply.choices[0].message.content or ""
        chunks = self._openai.chat.completions.create(
            model=ask.model, messages=messages, max_tokens=TOKENS, temperature=0, stream=True
        )
        return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


@pytest.fixture(scope="module")
def crowded() -> Iterator[Hub]:
    with running_hub(TOML, AIHUB_MEMORY=f"{MEMORY}MiB") as hub:
        yield hub


def mixed(chance: random.Random) -> list[Ask]:
    """A caller stays with a model for a few requests, as callers do."""
    asks: list[Ask] = []
    while len(asks) < REQUESTS:
        model = chance.choice((SMALL, LARGE, models.EMBEDDING))
        about = TEXTS if model == models.EMBEDDING else QUESTIONS
        asks += [
            Ask(model, chance.choice(about), chance.random() < 0.5)
            for _ in range(chance.randint(2, 6))
        ]
    return asks[:REQUESTS]


def same(answer: Answer, whole: Answer) -> bool:
    if isinstance(answer, str) or isinstance(whole, str):
        return answer == whole
    return sum(a * b for a, b in zip(answer, whole, strict=True)) > 0.9999


def undisturbed(hub: Hub, books: Books) -> tuple[Answers, float]:
    """Every answer that will be asked for, and the worst error of the books after first loads."""
    answers: Answers = {}
    worst = 0.0
    with closing(Caller(hub)) as caller:
        for model, abouts in ((SMALL, QUESTIONS), (models.EMBEDDING, TEXTS), (LARGE, QUESTIONS)):
            for at in range(SETTLED):
                ask = Ask(model, abouts[at % len(abouts)], stream=at % 2 == 0)
                answer = caller.ask(ask)
                assert same(answer, answers.setdefault((model, ask.about), answer))
            (pid,) = (pid for pid, name in engines(hub).items() if name == model)
            worst = max(worst, settled(books, model, pid))
    return answers, worst


class Traffic:
    """What all callers ask between them."""

    def __init__(self, hub: Hub, asks: Iterable[Ask], answers: Answers) -> None:
        self._hub = hub
        self._asks = iter(asks)
        self._turn = threading.Condition()
        self._answers = answers
        self.wrong: list[tuple[Ask, Answer]] = []
        self.answered = 0

    def call(self) -> int:
        """One caller, until nothing is left to ask; returns how often it had to ask again."""
        with closing(Caller(self._hub)) as caller:
            while (ask := self._next()) is not None:
                answer = caller.ask(ask)
                with self._turn:
                    self.answered += 1
                    self._turn.notify_all()
                    if not same(answer, self._answers[ask.model, ask.about]):
                        self.wrong.append((ask, answer))
            return caller.retries

    def wait(self, answers: int) -> None:
        """Until so many were answered."""
        with self._turn:
            assert self._turn.wait_for(lambda: self.answered >= answers, 120)

    def _next(self) -> Ask | None:
        with self._turn:
            return next(self._asks, None)


def kill_some(hub: Hub, chance: random.Random, traffic: Traffic) -> int:
    """Kills a serving or loading engine after so many answers, and so on; counts the killed."""
    killed = 0
    for part in range(KILLS):
        traffic.wait(REQUESTS * part // KILLS + chance.randint(5, REQUESTS // KILLS - 10))
        if running := sorted(engines(hub)):
            hub.kill_pid(chance.choice(running))
            killed += 1
    return killed


def test_models_in_turns_while_engines_die(crowded: Hub, note: Callable[[str], None]) -> None:
    chance = random.Random(SEED)
    with closing(Books(crowded)) as books, closing(Lookout(crowded)) as lookout:
        answers, first = undisturbed(crowded, books)
        traffic = Traffic(crowded, mixed(chance), answers)
        before = len(lookout.engines)
        began = time.monotonic()
        with ThreadPoolExecutor(CLIENTS + 1) as pool:
            killing = pool.submit(kill_some, crowded, chance, traffic)
            callers = [pool.submit(traffic.call) for _ in range(CLIENTS)]
            retries = sum(caller.result() for caller in callers)
            seconds = time.monotonic() - began
            killed = killing.result()
        left = {model: pid for pid, model in engines(crowded).items() if books.ready(model)}
        last = max(settled(books, model, pid) for model, pid in left.items())
        sizes = {name: report.size for name, report in books.read().models.items()}
    assert traffic.answered == REQUESTS
    assert traffic.wrong == []
    assert killed == KILLS
    for sight in lookout.sights:
        assert sight.books.reserved + sight.books.quarantined <= MEMORY * MIB
        assert sight.books.over == 0
        assert sight.real <= MEMORY * MIB
    assert not [pid for pid in lookout.engines if alive(pid) and pid not in engines(crowded)]
    # What is reserved is what was measured and, of prompts, the rest of a cache that is not full.
    for model, peak in lookout.peaks.items():
        assert sizes[model] >= peak * (1 - TOLERANCE) - LIBRARIES, (sizes, lookout.peaks)
        assert sizes[model] <= (peak + UNFILLED[model]) * (1 + TOLERANCE), (sizes, lookout.peaks)
    fullest = max(sight.real for sight in lookout.sights) / MIB
    note(
        f"{REQUESTS} answers in {seconds:.0f} s, {killed} engines killed,"
        f" {len(lookout.engines) - before - killed} swaps, {retries} asked again;"
        f" books off by {first:.1%} at most after first loads, by {last:.1%} in the end,"
        f" {fullest:.0f} of {MEMORY} MiB in use at most"
    )
