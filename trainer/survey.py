"""What a file is in its base's tokens; asked of the child, whose environment has the tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from shared.estimate import FLOATS
from shared.weights import WeightsError, read
from trainer.dataset import Finding
from trainer.plan import Dtype, Method
from trainer.recipe import Base, Data

FINE = 1 << 14
COARSE = 1 << 10
"""Lengths are told apart exactly below FINE, above it in steps of COARSE: few numbers are kept."""


class Question(msgspec.Struct, frozen=True, kw_only=True, tag_field="ask", tag="survey"):
    """A question to the child; the answer is a Survey."""

    base: str
    file: str
    method: Method
    max_length: int
    """Tokens at which an example will be cut."""


class Survey(msgspec.Struct, kw_only=True):
    """Of preferences, lengths are of the prompt with its longer answer."""

    examples: int = 0
    samples: int = 0
    """As many or more: a template that drops what was said before makes one sample an answer."""
    tokens: int = 0
    """Of one epoch, cut."""
    learned: int = 0
    truncated: int = 0
    dropped: int = 0
    """Samples with nothing to learn before the cut."""
    longest: int = 0
    p50: int = 0
    p99: int = 0
    findings: list[Finding] = []
    """Lines that the base's chat template does not take, the first of them."""
    errors: int = 0


class Unpack(msgspec.Struct, frozen=True, kw_only=True, tag_field="ask", tag="unpack"):
    """A GGUF file that the child is to unpack into a Hugging Face folder; it answers Unpacked."""

    file: str
    folder: str
    dtype: Dtype


class Unpacked(msgspec.Struct, frozen=True):
    bytes: int


def bucket(length: int) -> int:
    return length if length < FINE else -(-length // COARSE) * COARSE


def percentile(counts: Mapping[int, int], share: float) -> int:
    """The length that `share` of all do not exceed; 0 of none."""
    left = share * sum(counts.values())
    for length in sorted(counts):
        left -= counts[length]
        if left <= 0:
            return length
    return 0


def base_of(folder: Path) -> Base:
    """What a recipe needs of a Hugging Face folder; raises WeightsError, also for one that is
    published quantised."""
    weights = read(folder)
    quantised = [stored.type for stored in weights.stored if stored.type not in FLOATS]
    if quantised:
        raise WeightsError(
            f"{folder.name} is published quantised ({quantised[0]}): train on the model it was"
            " made from, nf4 quantises that as it is loaded."
        )
    return Base(
        parameters=weights.parameters,
        hidden=weights.shape.hidden,
        context=weights.shape.context,
    )


def data_of(survey: Survey, *, validated: bool) -> Data:
    return Data(
        examples=survey.samples,
        tokens=survey.tokens,
        longest=survey.longest,
        p99=survey.p99,
        validated=validated,
    )
