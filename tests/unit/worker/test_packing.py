from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.settings import SettingsError
from worker import packing
from worker.packing import Unsettled, divide, fits
from worker.residency import GIB


def models(sizes: dict[str, int], *devices: str) -> dict[str, dict[str, int]]:
    return {name: dict.fromkeys(devices, size * GIB) for name, size in sizes.items()}


def test_they_take_turns() -> None:
    found = divide(models({"a": 6, "b": 6, "c": 4}, "0", "1"), {"0": 10 * GIB, "1": 10 * GIB})
    assert found == {"a": "0", "b": "1", "c": "0"}


def test_where_turns_do_not_fit_others_do() -> None:
    sizes = models({"a": 6, "b": 5, "c": 5, "d": 4}, "0", "1")
    found = divide(sizes, {"0": 10 * GIB, "1": 10 * GIB})
    assert found["a"] == found["d"] != found["b"] == found["c"]


def test_a_device_that_is_larger() -> None:
    found = divide(models({"a": 10, "b": 6}, "0", "1"), {"0": 8 * GIB, "1": 16 * GIB})
    assert set(found.values()) <= {"1", "0"} and found["a"] == "1"


def test_too_much_is_an_error_with_the_numbers() -> None:
    """The sum would fit: 15 of 16; no division does."""
    with pytest.raises(SettingsError) as error:
        divide(models({"a": 5, "b": 5, "c": 5}, "0", "1"), {"0": 8 * GIB, "1": 8 * GIB})
    assert str(error.value).startswith(
        "pinned models need 15.00 GiB and cannot be divided among the devices, which have"
        " 0 8.00 GiB, 1 8.00 GiB: a 5.00 GiB, b 5.00 GiB, c 5.00 GiB. Unpin some"
    )


def test_a_model_may_take_more_on_one_device_than_on_another() -> None:
    sizes = {"a": {"cpu": 3 * GIB, "cuda:0": 4 * GIB}, "b": {"cpu": 9 * GIB, "cuda:0": 9 * GIB}}
    with pytest.raises(SettingsError, match=r"a 3\.00 GiB on cpu or 4\.00 GiB on cuda:0, b 9"):
        divide(sizes, {"cpu": 2 * GIB, "cuda:0": 12 * GIB})


def test_a_search_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MOST_STEPS", 3)
    with pytest.raises(Unsettled):
        divide(models({"a": 5, "b": 5, "c": 5}, "0", "1"), {"0": 8 * GIB, "1": 8 * GIB})


@given(
    st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), max_size=5),
    st.lists(st.integers(0, 20), min_size=1, max_size=3),
)
def test_it_finds_a_division_exactly_where_there_is_one(
    sizes: list[list[int]], rooms: list[int]
) -> None:
    devices = {f"d{at}": room for at, room in enumerate(rooms)}
    each = {f"m{at}": dict(zip(devices, row, strict=False)) for at, row in enumerate(sizes)}
    every = [dict(zip(each, chosen, strict=True)) for chosen in product(devices, repeat=len(each))]
    try:
        found = divide(each, devices)
    except SettingsError:
        assert not any(fits(division, each, devices) for division in every)
    else:
        assert found.keys() == each.keys()
        assert fits(found, each, devices)
