from __future__ import annotations

import mmap
import os
from pathlib import Path

from shared.wire.node import LoadProgress
from worker.engines.progress import MappedFile, file_bytes

MIB = 1 << 20


def test_pages_of_a_mapped_file_count_once_they_were_read(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(64 * MIB))
    before = file_bytes()
    assert before is not None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        weights = MappedFile(64 * MIB, before)
        assert weights.progress(file_bytes() or 0).read < 8 * MIB
        sum(mapped[at] for at in range(0, 32 * MIB, mmap.PAGESIZE))
        half = weights.progress(file_bytes() or 0)
        assert half.phase == "reading weights"
        assert 30 * MIB < half.read < 40 * MIB
        sum(mapped[at] for at in range(32 * MIB, 64 * MIB, mmap.PAGESIZE))
        whole = weights.progress(file_bytes() or 0)
        assert whole.phase == "warming up"
        assert 62 * MIB < whole.read <= 64 * MIB


def test_what_was_read_stays_read_and_never_exceeds_the_file() -> None:
    weights = MappedFile(100, before=10)
    assert weights.progress(5) == LoadProgress("reading weights", 0, 100)
    assert weights.progress(60) == LoadProgress("reading weights", 50, 100)
    assert weights.progress(20) == LoadProgress("reading weights", 50, 100)
    assert weights.progress(500) == LoadProgress("warming up", 100, 100)


def test_a_process_that_is_gone_has_no_bytes() -> None:
    assert file_bytes(0x7FFFFFFE) is None
