"""How many wrong hits checks rule out, and when a cache must be turned off.

The bound is Clopper and Pearson's, one-sided and exact: the largest share of wrong hits with
which so few wrong ones would still have been found with a probability of 5 %.
"""

from __future__ import annotations

from math import ceil, exp, expm1, lgamma, log, log1p

CONFIDENCE = 0.95
STEPS = 60
"""Halvings of an interval: more than a double can tell apart."""


def upper_bound(wrong: int, checked: int, confidence: float = CONFIDENCE) -> float:
    """The upper confidence bound on the share of wrong hits; 1 before anything was checked.

    Raises ValueError unless 0 <= wrong <= checked.
    """
    if not 0 <= wrong <= checked:
        raise ValueError(f"{wrong} wrong of {checked} checked")
    if wrong == checked:
        return 1.0
    missed = 1 - confidence
    if wrong == 0:
        return -expm1(log(missed) / checked)
    low, high = wrong / checked, 1.0
    for _ in range(STEPS):
        share = (low + high) / 2
        if at_most(wrong, checked, share) > missed:
            low = share
        else:
            high = share
    return high


def at_most(wrong: int, checked: int, share: float) -> float:
    """The probability of `wrong` or fewer of `checked`, each wrong with probability `share`."""
    if share <= 0:
        return 1.0
    if share >= 1:
        return float(wrong >= checked)
    odds, rest = log(share), log1p(-share)
    whole = lgamma(checked + 1)
    logs = (
        whole - lgamma(k + 1) - lgamma(checked - k + 1) + k * odds + (checked - k) * rest
        for k in range(wrong + 1)
    )
    return min(1.0, sum(exp(value) for value in logs))


def required(bound: float, confidence: float = CONFIDENCE) -> int:
    """Right hits in a row after which the upper bound is within `bound`; 0 when any share is."""
    if bound >= 1:
        return 0
    if bound <= 0:
        raise ValueError("no number of checks rules out every wrong hit")
    return ceil(log(1 - confidence) / log1p(-bound))


def reason_to_turn_off(wrong: int, checked: int, bound: float) -> str | None:
    """Why a cache must go off, None while it may stay on.

    Until `required` hits were checked the ones to come are taken to be right: a wrong one among
    them is one that no later luck can make good in time, so it ends the trial at once.
    """
    if wrong == 0:
        return None
    reached = max(checked, required(bound))
    share = upper_bound(wrong, reached)
    if share <= bound:
        return None
    return (
        f"{wrong} of {checked} checked hits were wrong: up to {100 * share:.2g} % of all hits may"
        f" be (95 % confidence), and {100 * bound:.2g} % is the limit."
    )


def checked_share(checked: int, bound: float, share: float) -> float:
    """The share of hits to check: all of them until the cache is proven."""
    return 1.0 if checked < required(bound) else share
