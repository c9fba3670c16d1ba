"""How far a vLLM's start is, and why one ended, out of what it wrote. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from shared.wire.node import LoadProgress
from worker.engines.refusal import clean

PREFIX = re.compile(
    r"^(?:\([\w ]+ pid=\d+\) )?"
    r"(?:(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d [\d:]+ \[[^\]]*\] ?)?"
)
"""The process, the level, the time and the place before a line of vLLM's log."""
RAISED = re.compile(r"^(?:[\w.]+\.)?\w*(?:Error|Exception|Interrupt)\b: .|^Value error, .")
USAGE = re.compile(r"^[\w.]+: error: ")
ELSEWHERE = re.compile(
    r"See root cause above|Engine core initialization failed|validation errors? for \w+$"
)
"""Lines that announce the error another line tells."""
MOST = 3

STARTING = "starting"
READING = "reading weights"
PHASES = (
    (STARTING, re.compile(r"Initializing a V1 LLM engine")),
    (
        READING,
        re.compile(
            r"Loading [^:]*checkpoint shards:\s+(?P<percent>\d+)% Completed|[Ll]oad(?:ing)? model"
        ),
    ),
    ("placing weights", re.compile(r"Loading weights took|Model loading took")),
    (
        "compiling",
        re.compile(
            r"torch\.compile|Dynamo bytecode transform|Warming up model for the compilation"
        ),
    ),
    (
        "making the KV cache",
        re.compile(r"Available KV cache memory|GPU KV cache size|CPU KV cache"),
    ),
    ("capturing CUDA graphs", re.compile(r"Capturing CUDA graphs")),
    (
        "warming up",
        re.compile(r"Graph capturing finished|init engine \(|Starting vLLM|startup complete"),
    ),
)
"""What the server does, in order, and the lines that say so."""


def progress(lines: Iterable[str], before: LoadProgress) -> LoadProgress:
    """The furthest phase these lines tell of, and never one behind `before`.

    Of the weights vLLM tells a share, file by file. Its bar is one line with carriage returns.
    """
    names = [name for name, _ in PHASES]
    furthest, read = names.index(before.phase), before.read
    for line in lines:
        if PHASES[0][1].search(line):
            # It has all settings in it, in words of any phase.
            continue
        for at in range(furthest, len(PHASES)):
            for found in PHASES[at][1].finditer(line):
                furthest = at
                if names[at] == READING and found["percent"] is not None:
                    read = max(read, before.total * min(100, int(found["percent"])) // 100)
    if furthest > names.index(READING):
        read = before.total
    return LoadProgress(names[furthest], read, before.total)


def last_words(lines: Sequence[str]) -> str:
    """The errors that were raised, else logged, else simply the last lines; without paths."""
    raised: list[str] = []
    logged: list[str] = []
    plain: list[str] = []
    for line in lines:
        prefix = PREFIX.match(line)
        text = line[prefix.end() :].strip() if prefix is not None else line
        if not text or ELSEWHERE.search(text):
            continue
        plain.append(text)
        if RAISED.match(text) or USAGE.match(text):
            raised.append(text)
        elif prefix is not None and prefix["level"] in ("ERROR", "CRITICAL"):
            logged.append(text)
    # One error is told by each process it passes through.
    told = list(dict.fromkeys(raised or logged or plain))
    return " | ".join(clean(text) for text in told[-MOST:])
