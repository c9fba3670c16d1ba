"""Why a vLLM ended, out of what it wrote. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

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
