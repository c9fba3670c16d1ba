"""What models of fine-tuning are called. Pure.

    ft:BASE:PROJECT:SUFFIX:ID                 the result of a job
    ft:BASE:PROJECT:SUFFIX:ID:ckpt-step-N     a checkpoint

ID is the job's own, so a name means the same weights for ever.
"""

from __future__ import annotations

import hashlib
import re

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
LENGTH = 10
LONGEST_PROJECT = 40


def short(job: str) -> str:
    """The part of a name that tells jobs apart."""
    number = int.from_bytes(hashlib.sha256(job.encode()).digest(), "big")
    digits = []
    for _ in range(LENGTH):
        number, digit = divmod(number, len(DIGITS))
        digits.append(DIGITS[digit])
    return "".join(digits)


def slug(project: str) -> str:
    plain = re.sub(r"[^a-z0-9]+", "-", project.lower()).strip("-")
    return plain[:LONGEST_PROJECT].strip("-") or "project"


def model(base: str, project: str, suffix: str | None, job: str, step: int | None = None) -> str:
    name = f"ft:{base}:{slug(project)}:{suffix or ''}:{short(job)}"
    return name if step is None else f"{name}:ckpt-step-{step}"
