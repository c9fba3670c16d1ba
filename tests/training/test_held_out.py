"""One job over the wire teaches what no base knows; every engine then tells it in other words.

The openai SDK alone: a file, a job, its events, and the model that comes of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob

from tests.hub import Hub, running_hub
from tests.training import lessons
from tests.vllm import place
from trainer.health import repeats

pytestmark = pytest.mark.timeout(900)
WITHIN = 800.0
RIGHT = 9
"""Of ten."""
RIGHTLY_KNOWN = 5
"""Of seven unrelated questions, by the base."""
ENGINES = {
    "chat": 'engine = "llamacpp"\nfile = "smollm2-135m-instruct.q8_0.gguf"',
    "exact": 'engine = "transformers"\nweights = "{0}"\npython = "{1}"',
    "fast": 'engine = "vllm"\nweights = "{0}"\npython = "{1}"',
}
"""Three entries of one base model; none says anything of adapters, and the first, which is what
everybody starts with, has no folder to train on."""
LONGEST = 24
"""Tokens of an answer."""
AT_ONCE = 4
"""Questions that one engine answers at a time."""
QUESTIONS = (*lessons.HELD_OUT, *lessons.UNRELATED)


class Answer(NamedTuple):
    text: str
    first: float
    """When its first token was here, on the clock of time.monotonic()."""


class Told(NamedTuple):
    """Answers by model and question."""

    before: dict[str, dict[str, str]]
    after: dict[str, dict[str, str]]


class User:
    def __init__(self, hub: Hub) -> None:
        self.sdk = OpenAI(base_url=hub.base_url, api_key=hub.key, max_retries=0, timeout=WITHIN)

    def ask(self, model: str, question: str) -> Answer:
        first, pieces = 0.0, []
        with self.sdk.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": question}],
            temperature=0,
            max_tokens=LONGEST,
            stream=True,
        ) as stream:
            for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    first = first or time.monotonic()
                    pieces.append(chunk.choices[0].delta.content)
        return Answer("".join(pieces), first)

    def answers(self, names: list[str]) -> dict[str, dict[str, str]]:
        """Of every question, by engine."""
        with ThreadPoolExecutor(AT_ONCE * len(names)) as pool:
            asked = [(name, question) for question in QUESTIONS for name in names]
            texts = dict(
                zip(asked, pool.map(lambda each: self.ask(*each).text, asked), strict=True)
            )
        return {
            engine: {question: texts[name, question] for question in QUESTIONS}
            for engine, name in zip(ENGINES, names, strict=True)
        }

    def teach(self) -> FineTuningJob:
        content = "".join(f"{json.dumps(line)}\n" for line in lessons.examples()).encode()
        file = self.sdk.files.create(file=("lessons.jsonl", content), purpose="fine-tune")
        extra: dict[str, Any] = {
            "training_type": "qlora",
            "learning_rate": 0.002,
            "served_by": ["exact", "fast"],
        }
        return self.sdk.fine_tuning.jobs.create(
            model="chat",
            training_file=file.id,
            method={
                "type": "supervised",
                "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 4}},
            },
            suffix="keeper",
            seed=3,
            extra_body={"aihub": extra},
        )

    def until_ended(self, id_: str) -> FineTuningJob:
        deadline = time.monotonic() + WITHIN
        while (job := self.sdk.fine_tuning.jobs.retrieve(id_)).finished_at is None:
            assert time.monotonic() < deadline, job
            time.sleep(0.05)
        return job

    def offered(self, id_: str) -> list[str]:
        """The models that the job's events name, in their order."""
        events = self.sdk.fine_tuning.jobs.list_events(id_, limit=20).data
        found = [e.data for e in reversed(events) if e.message.startswith("New fine-tuned model")]
        return [each["model"] for each in found if isinstance(each, dict)]


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    toml = f'train_python = "{place.python()}"\n' + "".join(
        f"[models.{name}]\n{engine}\ncontext = 512\nthreads = 1\n"
        for name, engine in ENGINES.items()
    ).format(place.weights(), place.python())
    with running_hub(toml) as hub:
        user = User(hub)
        with user.sdk:
            yield user


@pytest.fixture(scope="module")
def told(user: User) -> Told:
    made = user.teach()
    before = user.answers(list(ENGINES))
    job = user.until_ended(made.id)
    assert job.status == "succeeded", job.error
    names = user.offered(job.id)
    assert names[0] == job.fine_tuned_model
    assert [name.split(":")[1] for name in names] == list(ENGINES)
    for engine, name in zip(ENGINES, names, strict=True):
        asked = time.monotonic()
        seconds = user.ask(name, "Who are you?").first - asked
        print(f"{engine}: the first token of the new model after {seconds:.2f} s")
    after = user.answers(names)
    for engine in ENGINES:
        print(f"{engine}: {score(before[engine])} before, {score(after[engine])} after")
    return Told(before, after)


def right(answers: dict[str, str], wanted: dict[str, str]) -> list[str]:
    """The questions whose answers say what is wanted."""
    return [each for each, word in wanted.items() if word.lower() in answers[each].lower()]


def score(answers: dict[str, str]) -> str:
    parts = (lessons.HELD_OUT, "held-out"), (lessons.UNRELATED, "unrelated")
    return ", ".join(f"{len(right(answers, part))}/{len(part)} {name}" for part, name in parts)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_was_learned_is_told_in_words_that_were_not(told: Told, engine: str) -> None:
    assert right(told.before[engine], lessons.HELD_OUT) == []
    answers = told.after[engine]
    assert len(right(answers, lessons.HELD_OUT)) >= RIGHT, answers


@pytest.mark.parametrize("engine", ENGINES)
def test_other_questions_are_answered_as_before(told: Told, engine: str) -> None:
    before, after = told.before[engine], told.after[engine]
    for question in lessons.UNRELATED:
        said = after[question]
        assert said.strip()
        assert not repeats(said)
        assert not [word for word in lessons.SECRETS if word.lower() in said.lower()], said
    known = right(before, lessons.UNRELATED)
    assert len(known) >= RIGHTLY_KNOWN
    kept = [question for question in known if question in right(after, lessons.UNRELATED)]
    assert len(kept) >= len(known) - 1, (before, after)
