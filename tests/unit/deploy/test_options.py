"""What the options of keys, projects and budgets are read as."""

from __future__ import annotations

import argparse

import pytest

from deploy.budgets import money
from deploy.main import arguments
from deploy.options import PURPOSES as KINDS
from deploy.options import SCOPES as OFFERED
from deploy.options import duration, micros
from shared.wire.account import SCOPES
from shared.wire.openai.file import PURPOSES


@pytest.mark.parametrize(("text", "seconds"), [("30d", 2_592_000), ("12h", 43_200), ("0s", 0)])
def test_durations(text: str, seconds: int) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "-1d", "1.5h", "1y", "1 d", "9999999999d"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        duration(text)


@pytest.mark.parametrize(
    ("text", "amount", "shown"),
    [
        ("12.5", 12_500_000, "12.50"),
        ("0.000001", 1, "0.000001"),
        ("3", 3_000_000, "3.00"),
        ("0", 0, "0.00"),
    ],
)
def test_money(text: str, amount: int, shown: str) -> None:
    assert micros(text) == amount
    assert money(amount) == shown


@pytest.mark.parametrize("text", ["", "a", "-1", "0.0000001", "NaN", "Infinity"])
def test_what_is_no_money(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        micros(text)


def test_every_scope_and_every_purpose_is_offered() -> None:
    assert OFFERED == SCOPES
    assert KINDS == PURPOSES


def test_a_budget_is_of_a_key_or_of_a_project() -> None:
    with pytest.raises(SystemExit):
        arguments().parse_args(["budgets", "set", "--tokens", "1"])
    with pytest.raises(SystemExit):
        arguments().parse_args(["budgets", "set", "--of-key", "a", "--of-project", "b"])
