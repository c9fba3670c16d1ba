from __future__ import annotations

import pytest

from shared.footprint import Key
from tests.estimates import estimate
from tests.unit.worker.scripted import Scripted
from worker.cpu import CpuDevice
from worker.device import Measured
from worker.ledger import Ledger
from worker.resident import NoRoom, Resident, ran_out

BOOKS = 1000


@pytest.fixture
def books() -> Ledger:
    return Ledger("cpu", BOOKS)


@pytest.fixture
def model(books: Ledger) -> Resident:
    key = Key("cpu", "m", "llamacpp", 1, 1)
    return Resident("m", Scripted(), CpuDevice(), books, 500, None, key, {})


def booked(books: Ledger) -> tuple[int, int | None]:
    line = books.held("m")
    assert line is not None
    return line.reserved, line.measured


async def test_what_it_may_still_fill_stays_reserved(books: Ledger, model: Resident) -> None:
    await model.load()
    model.settle(Measured(400, "pss"))
    assert booked(books) == (500, 400)
    model.settle(Measured(600, "pss"))
    assert booked(books) == (600, 600)
    model.settle(Measured(450, "pss"))
    assert booked(books) == (600, 450)
    assert (model.loaded, model.peak, model.held) == (400, 600, 450)


async def test_nothing_is_no_figure_of_an_engine(books: Ledger, model: Resident) -> None:
    await model.load()
    model.settle(Measured(400, "process"))
    model.settle(Measured(0, "process"))
    model.settle(Measured(None, "unknown"))
    assert (model.loaded, model.held, booked(books)) == (400, 400, (500, 400))


async def test_a_remainder_shows_less_but_not_more(books: Ledger, model: Resident) -> None:
    await model.load()
    model.settle(Measured(400, "remainder"))
    model.settle(Measured(450, "remainder"))
    assert (model.held, model.peak) == (400, 400)
    model.settle(Measured(380, "remainder"))
    assert model.held == 380


async def test_without_room_in_the_books_nothing_is_started(books: Ledger, model: Resident) -> None:
    books.others(600)
    with pytest.raises(NoRoom, match=r"500 bytes and 400 are free of 1000: .* 600 used by others"):
        await model.load()
    assert isinstance(model.engine, Scripted)
    assert model.engine.started == 0
    assert books.held("m") is None


async def test_a_reservation_that_was_too_small_grows_up_to_the_device(model: Resident) -> None:
    for most, reserved in ((BOOKS, 550), (560, 560), (100, 560)):
        await model.grow(most, None)
        assert model.reserved == reserved


class Told(Scripted):
    """An engine that is told what it may take."""

    def __init__(self) -> None:
        super().__init__()
        self.granted: list[int] = []

    def grant(self, bytes: int) -> None:
        self.granted.append(bytes)


async def test_each_start_is_told_what_the_books_say_then(books: Ledger) -> None:
    """Also after one that ran out of memory, whatever the next one was measured to take."""
    engine = Told()
    model = Resident(
        "m", engine, CpuDevice(), books, 500, estimate(500), Key("cpu", "m", "vllm", 1, 1), {}
    )
    await model.load()
    model.settle(Measured(600, "pss"))
    await model.remember(None)
    await model.stop(None)
    await model.load()
    assert engine.granted == [500, 612]
    await model.stop(None)
    await model.grow(BOOKS, None)
    await model.load()
    model.settle(Measured(400, "pss"))
    await model.remember(None)
    await model.stop(None)
    await model.load()
    assert engine.granted[2:] == [673, 673]


@pytest.mark.parametrize(
    ("words", "memory"),
    [
        ("The engine of m could not be started: There is not enough memory for it.", True),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", True),
        ("ValueError: No available memory for the cache blocks.", True),
        ("Its architecture is not known.", False),
    ],
)
def test_whether_memory_was_the_reason(words: str, memory: bool) -> None:
    assert ran_out(words) == memory
