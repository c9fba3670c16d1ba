from __future__ import annotations

import os
from pathlib import Path

from deploy.logfile import LogFile


def write(log: LogFile, text: str) -> None:
    descriptor = log.open()
    os.write(descriptor, text.encode())
    os.close(descriptor)


def test_keeps_one_generation_before(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log" / "worker.log")
    for text in ("first\n", "second\n", "third\n"):
        log.rotate()
        write(log, text)
    assert log.path.read_text() == "third\n"
    assert log.path.with_name("worker.log.1").read_text() == "second\n"
    assert len(list(log.path.parent.iterdir())) == 2


def test_a_writer_cannot_outgrow_the_cap(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "worker.log", cap=100)
    descriptor = log.open()
    for number in range(50):
        os.write(descriptor, f"line {number:04}\n".encode())
        log.bound()
        assert log.path.stat().st_size <= 100
    os.close(descriptor)
    assert log.tail(1) == ["line 0049"]
    kept = log.path.with_name("worker.log.1").read_text() + log.path.read_text()
    assert "line 0040" in kept


def test_the_tail_is_of_the_last_child(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "worker.log")
    write(log, "old\n")
    write(log, "".join(f"new {number}\n" for number in range(30)))
    assert log.tail(3) == ["new 27", "new 28", "new 29"]
    assert log.tail(100)[0] == "new 0"
    assert LogFile(tmp_path / "none.log").tail() == []
