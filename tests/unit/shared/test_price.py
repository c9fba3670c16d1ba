"""Money is whole micro-units, rounded up once per request."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from shared.price import cost, dearest
from shared.wire.account import Price

RATE = st.integers(0, 10**12)
COUNT = st.integers(0, 10**7)
PRICES = st.builds(Price, input=RATE, cached=RATE, output=RATE, gpu_second=RATE)


def test_without_a_price_a_model_is_free() -> None:
    assert cost(None, 10**6, 10**6, 10**6, 10**6) == 0
    assert dearest(None, 10**6, 10**6, 10**6) == 0


def test_each_kind_of_token_and_time_has_its_price() -> None:
    price = Price(input=3_000_000, cached=300_000, output=15_000_000, gpu_second=700)
    assert cost(price, 1_000, 0, 0, 0) == 3_000
    assert cost(price, 1_000, 1_000, 0, 0) == 300
    assert cost(price, 0, 0, 1_000, 0) == 15_000
    assert cost(price, 0, 0, 0, 2_500) == 1_750


def test_what_begins_a_micro_unit_costs_it_once() -> None:
    price = Price(input=1, output=1)
    assert cost(price, 0, 0, 0, 0) == 0
    assert cost(price, 1, 0, 1, 0) == 1
    assert cost(price, 500_000, 0, 500_001, 0) == 2


@given(price=PRICES, prompt=COUNT, share=st.floats(0, 1), completion=COUNT, gpu_ms=COUNT)
def test_it_is_the_exact_sum_rounded_up(
    price: Price, prompt: int, share: float, completion: int, gpu_ms: int
) -> None:
    cached = int(prompt * share)
    exact = (
        Fraction(price.input * (prompt - cached), 10**6)
        + Fraction(price.cached * cached, 10**6)
        + Fraction(price.output * completion, 10**6)
        + Fraction(price.gpu_second * gpu_ms, 1000)
    )
    charged = cost(price, prompt, cached, completion, gpu_ms)
    assert exact <= charged < exact + 1


@given(
    price=PRICES,
    prompt=COUNT,
    completion=COUNT,
    gpu_ms=COUNT,
    shares=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_nothing_costs_more_than_the_dearest(
    price: Price, prompt: int, completion: int, gpu_ms: int, shares: tuple[float, ...]
) -> None:
    most = dearest(price, prompt, completion, gpu_ms)
    used, hit, said, ran = shares
    asked = int(prompt * used)
    charged = cost(price, asked, int(asked * hit), int(completion * said), int(gpu_ms * ran))
    assert charged <= most
