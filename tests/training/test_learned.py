"""Of each example the answers are learned, as they are read when the model is served."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.training.job import asked, preferred
from tests.vllm import place

pytestmark = pytest.mark.timeout(900)

SCRIPT = Path(__file__).with_name("learned.py")
END = "<|im_end|>"
SYSTEM = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
FORGETFUL = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}(thought){% endif %}{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Keeps the thought of the last answer alone, as templates of reasoning models do."""
ENDLESS = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
"""Has no token that ends an answer."""
STRICT = "{{ raise_exception('roles must alternate') }}"
TOOLS = (
    "{% for t in tools or [] %}{{ t.function.name }};{% endfor %}{% for m in messages %}"
    "<|im_start|>{{ m.role }}\n{% for c in m.tool_calls or [] %}"
    "call {{ c.function.name }} {{ c.function.arguments.at }}{% endfor %}"
    "{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


CALL = {"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"at": 7}'}}
LOOK = {"type": "function", "function": {"name": "look"}}


def turns(*answers: tuple[str, int]) -> dict[str, Any]:
    messages: list[dict[str, object]] = []
    for place_, (text, weight) in enumerate(answers):
        messages.append({"role": "user", "content": f"Ask {place_}"})
        messages.append({"role": "assistant", "content": text, "weight": weight})
    return {"messages": messages}


TALK = turns(("First.", 1), ("Second.", 0), ("Third.", 1))
QUESTIONS: dict[str, tuple[str, str, list[object]]] = {
    "talk": (
        "supervised",
        "",
        [
            TALK,
            asked("Who?", "Ünï😀 me."),
            {"messages": [*TALK["messages"][:2], {"role": "user", "content": "Thanks"}]},
            {**TALK, "tools": [LOOK]},
        ],
    ),
    "forgetful": ("supervised", FORGETFUL, [turns(("First.", 1), ("Second.", 1))]),
    "endless": ("supervised", ENDLESS, [asked("Who?", "Me.")]),
    "strict": ("supervised", STRICT, [asked("Who?", "Me.")]),
    "tools": (
        "supervised",
        TOOLS,
        [
            {
                "messages": [
                    {"role": "user", "content": "Look"},
                    {"role": "assistant", "tool_calls": [CALL]},
                ],
                "tools": [LOOK],
            }
        ],
    ),
    "pair": ("dpo", "", [preferred("Tea?", "Aye, tea!", "Aye.")]),
}


@pytest.fixture(scope="module")
def learned() -> dict[str, list[Any]]:
    """By the names of the questions, all asked of one process."""
    told = [
        {"method": method, "template": template, "lines": lines}
        for method, template, lines in QUESTIONS.values()
    ]
    done = subprocess.run(
        [place.python(), SCRIPT, str(place.weights())],
        input=json.dumps(told).encode(),
        stdout=subprocess.PIPE,
        check=True,
        timeout=240,
    )
    return dict(zip(QUESTIONS, json.loads(done.stdout), strict=True))


Learned = dict[str, list[Any]]


def test_every_answer_of_a_conversation_in_one_sample(learned: Learned) -> None:
    whole, accents, trailing, tools = learned["talk"]
    ((text, spans),) = whole
    assert text.startswith(SYSTEM)
    assert text.endswith(f"Third.{END}")
    assert spans == [f"First.{END}", f"Third.{END}"]
    ((_, spans),) = accents
    assert spans == [f"Ünï😀 me.{END}"]
    ((text, spans),) = trailing
    assert "Thanks" not in text
    assert spans == [f"First.{END}"]
    assert tools == "tools_unsupported"


def test_one_sample_an_answer_where_the_template_drops_what_was_said(learned: Learned) -> None:
    (samples,) = learned["forgetful"]
    assert [spans for _, spans in samples] == [
        [f"(thought)First.{END}"],
        [f"(thought)Second.{END}"],
    ]
    assert "(thought)First" not in samples[1][0]


def test_an_end_is_added_where_the_template_has_none(learned: Learned) -> None:
    (((text, spans),),) = learned["endless"]
    assert text == f"[user] Who?\n[assistant] Me.{END}"
    assert spans == [f" Me.{END}"]


def test_what_a_template_refuses(learned: Learned) -> None:
    assert learned["strict"] == ["template_unfit"]


def test_calls_of_tools(learned: Learned) -> None:
    (((text, spans),),) = learned["tools"]
    assert text.startswith("look;")
    assert spans == [f"call look 7{END}"]


def test_a_preference_shares_its_prompt(learned: Learned) -> None:
    ((prompt, chosen, rejected),) = learned["pair"]
    assert prompt.endswith(f"Tea?{END}\n<|im_start|>assistant\n")
    assert (chosen, rejected) == (f"Aye, tea!{END}", f"Aye.{END}")
