"""What can be told of a chat request without a model: what it carries, how long, code, language."""

from __future__ import annotations

import re
from typing import NamedTuple

from shared.wire.openai.chat import ChatRequest
from shared.wire.openai.message import AudioPart, ImagePart, TextPart, User, VideoPart

LOOKED_AT = 8_192
"""Characters of the newest user text that are looked at."""
BYTES_PER_TOKEN = 3
"""On the short side, so that a request that is let in also fits."""
ROOM = 256
"""Tokens kept for the answer when the caller sets no limit."""
CODE = re.compile(
    r"```|^\s*(def |class |import |from \w+ import |#include|func |fn |package |public |SELECT\b)"
    r"|[;{}]\s*$|=>|\bTraceback \(most recent",
    re.MULTILINE,
)
CODE_SIGNS = 2
SCRIPTS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("ja", re.compile(r"[\u3040-\u30ff]")),
    ("ko", re.compile(r"[\uac00-\ud7af]")),
    ("zh", re.compile(r"[\u4e00-\u9fff]")),
    ("ru", re.compile(r"[\u0400-\u04ff]")),
    ("ar", re.compile(r"[\u0600-\u06ff]")),
    ("he", re.compile(r"[\u0590-\u05ff]")),
    ("hi", re.compile(r"[\u0900-\u097f]")),
    ("el", re.compile(r"[\u0370-\u03ff]")),
    ("th", re.compile(r"[\u0e00-\u0e7f]")),
)
"""Languages whose script tells them; the newest text decides."""
COMMON = {
    "en": "the and is of to in that it for with what how are you this",
    "de": "der die das und ist nicht ein eine mit für auf wie was ich zu",
    "fr": "le la les et est une des pour que dans qui sur pas je vous",
    "es": "el los las y es una para que con por cómo qué no de en",
    "it": "il lo gli e è una per che con non di come sono questo",
    "pt": "o os as e é uma para que com não como por em você isso",
    "nl": "de het een en is niet met voor van wat hoe ik dat op",
}
"""The commonest words of languages that share the Latin script."""
WORDS = {code: frozenset(words.split()) for code, words in COMMON.items()}
ENOUGH_WORDS = 2


class Traits(NamedTuple):
    """`tokens` is what prompt and answer may take together, on the safe side."""

    images: bool = False
    audio: bool = False
    tools: bool = False
    code: bool = False
    language: str | None = None
    tokens: int = 0


def read(request: ChatRequest, size: int) -> Traits:
    """The traits of a request whose body has `size` bytes."""
    text, kinds = newest_text(request)
    answer = request.max_completion_tokens or request.max_tokens or ROOM
    media = kinds & {ImagePart, VideoPart, AudioPart}
    prompt = ROOM if media else size // BYTES_PER_TOKEN
    return Traits(
        images=bool(kinds & {ImagePart, VideoPart}),
        audio=AudioPart in kinds,
        tools=bool(request.tools),
        code=len(CODE.findall(text)) >= CODE_SIGNS,
        language=language(text),
        tokens=prompt + answer,
    )


def newest_text(request: ChatRequest) -> tuple[str, set[type]]:
    """The last user message's text, and the kinds of parts that any user message has."""
    text = ""
    kinds: set[type] = set()
    for message in request.messages:
        if not isinstance(message, User):
            continue
        if isinstance(message.content, str):
            text = message.content
            continue
        kinds |= {type(part) for part in message.content}
        text = "\n".join(part.text for part in message.content if isinstance(part, TextPart))
    return text[:LOOKED_AT], kinds


def language(text: str) -> str | None:
    """A language code, or None where neither the script nor common words tell."""
    letters = sum(character.isalpha() for character in text)
    for code, script in SCRIPTS:
        if letters and len(script.findall(text)) * 4 > letters:
            return code
    words = re.findall(r"[^\W\d_]+", text.lower())
    counts = {code: sum(word in common for word in words) for code, common in WORDS.items()}
    best = max(counts, key=lambda code: counts[code])
    others = max(count for code, count in counts.items() if code != best)
    return best if counts[best] >= ENOUGH_WORDS and counts[best] > others else None
