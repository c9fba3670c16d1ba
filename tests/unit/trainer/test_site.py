"""Devices have the name of their product."""

from __future__ import annotations

import os
from pathlib import Path

from trainer import site


def test_a_cpu_by_its_name_and_number(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: A Chip 9\n\nprocessor\t: 1\n")
    assert site.kind("cpu", cpus=file) == f"A Chip 9 x {os.cpu_count()}"
    assert site.kind("cpu", cpus=tmp_path / "none").endswith(f" x {os.cpu_count()}")


def test_a_card_by_its_number(tmp_path: Path) -> None:
    for bus, name in (("0000:01:00.0", "NVIDIA L4"), ("0000:41:00.0", "NVIDIA T4")):
        (tmp_path / bus).mkdir()
        (tmp_path / bus / "information").write_text(f"Model: \t\t {name}\nIRQ: 1\n")
    assert site.kind("cuda:0", cards=tmp_path) == "NVIDIA L4"
    assert site.kind("cuda:1", cards=tmp_path) == "NVIDIA T4"
    assert site.kind("cuda:2", cards=tmp_path) == "cuda:2"
    assert site.kind("cuda", cards=tmp_path / "none") == "cuda"
