from __future__ import annotations

from pathlib import Path

import pytest

from deploy.explain import files

NAMES = ("cpu", "cpu-cuda-0", "cpu-cpu-1", "gpu", "cpu2", "cpu.x")


@pytest.mark.parametrize(
    ("lane", "admissions", "found"),
    [
        ("cpu", False, ["cpu-cpu-1.jsonl", "cpu-cuda-0.jsonl", "cpu.jsonl"]),
        ("gpu", True, ["gpu.admissions.jsonl", "gpu.jsonl.1", "gpu.jsonl"]),
        ("cpu.x", False, ["cpu.x.jsonl"]),
        ("c*", False, []),
    ],
)
def test_the_journals_of_all_workers_of_a_lane(
    lane: str, admissions: bool, found: list[str], tmp_path: Path
) -> None:
    for name in NAMES:
        (tmp_path / f"{name}.jsonl").touch()
        (tmp_path / f"{name}.admissions.jsonl").touch()
    (tmp_path / "gpu.jsonl.1").touch()
    assert [path.name for path in files(tmp_path, lane, admissions)] == found


def test_all_journals(tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / f"{name}.jsonl").touch()
    assert {path.name for path in files(tmp_path, None, False)} == {f"{n}.jsonl" for n in NAMES}
