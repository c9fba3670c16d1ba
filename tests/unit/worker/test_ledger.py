from __future__ import annotations

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from worker import ledger
from worker.ledger import Granted, Held, Ledger, LedgerFull, Refused

GIB = 1 << 30
HOLDERS = st.sampled_from(["a", "b", "c", "d"])
SIZES = st.integers(1, 120)


class Books(RuleBasedStateMachine):
    """Every operation in any order, on a device of 100 bytes of which 90 are ours."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger("cuda:0", 100, 90)

    @rule(holder=HOLDERS, size=SIZES)
    def admit(self, holder: str, size: int) -> None:
        before = self.ledger.snapshot()
        had = self.ledger.held(holder)
        answer = self.ledger.admit(holder, size)
        if isinstance(answer, Granted):
            held = self.ledger.held(holder)
            assert held is not None
            assert held.reserved == size
            assert size <= before.free + (had.reserved if had else 0) or size <= self.had(had)
            return
        assert self.ledger.snapshot() == before
        assert answer.missing > 0
        assert answer.possible == (size <= 90 - before.quarantined - before.foreign)

    @staticmethod
    def had(held: Held | None) -> int:
        return held.reserved if held else 0

    @rule(holder=HOLDERS, measured=st.integers(0, 120), filling=st.integers(0, 20))
    def settle(self, holder: str, measured: int, filling: int) -> None:
        if self.ledger.held(holder) is None:
            with pytest.raises(KeyError):
                self.ledger.settle(holder, measured, filling)
            return
        held = self.ledger.settle(holder, measured, filling)
        assert held.reserved + held.over == measured + filling

    @rule(holder=HOLDERS)
    def release(self, holder: str) -> None:
        self.ledger.release(holder)
        after = self.ledger.snapshot()
        assert self.ledger.release(holder) == 0
        assert self.ledger.snapshot() == after

    @rule(holder=HOLDERS, size=SIZES)
    def quarantine(self, holder: str, size: int) -> None:
        line = self.ledger.quarantine(holder, size, "still there")
        assert line.bytes <= size
        assert self.ledger.held(holder) is None

    @rule(holder=HOLDERS)
    def clear(self, holder: str) -> None:
        self.ledger.clear(holder)
        after = self.ledger.snapshot()
        assert self.ledger.clear(holder) == 0
        assert self.ledger.snapshot() == after

    @rule(size=st.integers(0, 90))
    def others(self, size: int) -> None:
        before = self.ledger.snapshot()
        self.ledger.others(size)
        after = self.ledger.snapshot()
        assert (after.holders, after.quarantines) == (before.holders, before.quarantines)

    @invariant()
    def the_books_balance(self) -> None:
        shown = self.ledger.snapshot()
        assert shown.reserved == sum(held.reserved for held in shown.holders)
        assert shown.quarantined == sum(line.bytes for line in shown.quarantines)
        assert shown.free == max(0, 90 - shown.reserved - shown.quarantined - shown.foreign)
        assert shown.reserved + shown.quarantined <= shown.budget == 90
        assert shown.over == 0 or shown.free == 0
        lines = [*shown.holders, *shown.quarantines]
        numbers = [shown.free, *(line.over for line in lines)]
        numbers += [held.reserved for held in shown.holders]
        numbers += [line.bytes for line in shown.quarantines]
        assert min(numbers) >= 0
        assert self.ledger.free() == shown.free


Books.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestBooks = Books.TestCase


def test_a_refusal_tells_the_numbers() -> None:
    books = Ledger("cuda:0", 16 * GIB)
    assert books.admit("llama", 9 * GIB) == Granted("llama", 9 * GIB, 7 * GIB)
    books.quarantine("ghost", GIB, "process 7 is gone and its bytes are not")
    assert books.admit("qwen", 8 * GIB) == Refused(
        holder="qwen",
        asked=8 * GIB,
        missing=2 * GIB,
        free=6 * GIB,
        reserved=9 * GIB,
        quarantined=GIB,
        foreign=0,
        budget=16 * GIB,
        possible=True,
    )
    answer = books.admit("phi", 16 * GIB)
    assert isinstance(answer, Refused)
    assert not answer.possible


def test_what_foreign_programs_use_is_not_free() -> None:
    books = Ledger("cuda:0", 16 * GIB)
    books.admit("llama", 9 * GIB)
    books.others(5 * GIB)
    assert books.free() == 2 * GIB
    answer = books.admit("qwen", 4 * GIB)
    assert isinstance(answer, Refused)
    assert (answer.missing, answer.foreign, answer.possible) == (2 * GIB, 5 * GIB, True)
    books.others(9 * GIB)
    assert (books.free(), books.snapshot().over) == (0, 0)
    held = books.settle("llama", 9 * GIB)
    assert (held.reserved, held.over) == (9 * GIB, 0)
    books.others(0)
    assert books.free() == 7 * GIB


def test_measuring_corrects_the_reservation() -> None:
    books = Ledger("cpu", 1000)
    books.admit("a", 600)
    held = books.settle("a", 400, 50)
    assert (held.reserved, held.estimated, held.measured, held.over) == (450, 600, 400, 0)
    assert books.free() == 550


def test_more_than_there_is_leaves_nothing_free_until_it_is_made_up() -> None:
    books = Ledger("cpu", 1000)
    books.admit("a", 500)
    books.admit("b", 400)
    assert books.settle("a", 700).over == 100
    assert (books.free(), books.snapshot().over) == (0, 100)
    refused = books.admit("c", 50)
    assert isinstance(refused, Refused)
    assert refused.missing == 150
    books.release("b")
    held = books.held("a")
    assert held is not None
    assert (held.reserved, held.over, books.free()) == (700, 0, 300)


def test_a_sleeper_gives_back_and_takes_again() -> None:
    books = Ledger("cuda:0", 1000)
    books.admit("a", 800)
    books.settle("a", 100)
    books.admit("b", 500)
    assert isinstance(books.admit("a", 800), Refused)
    held = books.held("a")
    assert held is not None
    assert held.reserved == 100
    books.release("b")
    assert books.admit("a", 800) == Granted("a", 800, 200)


def test_bytes_that_do_not_come_back_are_withheld() -> None:
    books = Ledger("cuda:0", 1000)
    books.admit("a", 800)
    line = books.quarantine("a", 300, "300 bytes are still in use")
    assert (line.bytes, line.over, books.free()) == (300, 0, 700)
    assert books.clear("a") == 300
    assert books.free() == 1000


def test_a_snapshot_can_be_sent() -> None:
    books = Ledger("cuda:0", 1000, 900)
    books.admit("a", 800)
    books.quarantine("b", 200, "still there")
    shown = books.snapshot()
    assert msgspec.json.decode(msgspec.json.encode(shown), type=ledger.Snapshot) == shown
    assert shown.quarantines[0].over == 100


def test_nonsense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="budget"):
        Ledger("cpu", 10, 11)
    books = Ledger("cpu", 10)
    with pytest.raises(ValueError, match="0 bytes"):
        books.admit("a", 0)
    with pytest.raises(ValueError, match="-1 bytes"):
        books.quarantine("a", -1, "no")
    books.admit("a", 1)
    with pytest.raises(ValueError, match="measured"):
        books.settle("a", -1)
    monkeypatch.setattr(ledger, "MOST_HOLDERS", 1)
    with pytest.raises(LedgerFull):
        books.admit("b", 1)
