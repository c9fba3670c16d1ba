"""Python's collector of cycles, as a process that serves thousands of requests a second wants it.

With Python's own settings it looks at the young objects every few requests, and at all that a
process has imported and remembers every few seconds: a seventh of what a request costs.
"""

from __future__ import annotations

import gc

YOUNG = 10_000
"""Objects made and not freed between two looks at the youngest; Python begins with 700."""


def settle() -> None:
    """What is alive now lives as long as the process; to be called as it begins to serve."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 10, 10)
