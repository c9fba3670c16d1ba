from __future__ import annotations

from worker.process import LONGEST_LINE, Tail


def test_lines_split_anywhere() -> None:
    tail = Tail()
    assert tail.feed(b"one\ntw") == ["one"]
    assert tail.feed(b"o\n\nthree") == ["two"]
    assert tail.last(9) == ["one", "two", "three"]


def test_both_bounds_hold() -> None:
    tail = Tail(lines=3)
    for number in range(9):
        tail.feed(b"%d\n" % number)
    tail.feed(b"x" * 9 * LONGEST_LINE)
    assert tail.last(9)[:3] == ["6", "7", "8"]
    assert len(tail.last(9)[3]) == LONGEST_LINE
