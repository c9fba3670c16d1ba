from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from tests.fakes.nvml.card import FakeNvml
from worker import choice


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause between two engines."""
    monkeypatch.setattr(choice, "PAUSE", 0.0)


@pytest.fixture
def nvml_here(nvml: FakeNvml, nvml_library: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """The fake cards, seen by this process.

    LD_LIBRARY_PATH is read when a process starts; a library that is already loaded under its
    soname is what nvidia-ml-py gets here.
    """
    ctypes.CDLL(str(nvml_library))
    monkeypatch.setenv("FAKE_NVML", nvml.environment["FAKE_NVML"])
    return nvml
