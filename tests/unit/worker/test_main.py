from __future__ import annotations

import pytest

from shared.settings import Settings, SettingsError
from worker.custody import ALL, Share
from worker.main import chosen, journal_name


def test_a_worker_has_one_device_and_knows_its_place() -> None:
    both = Settings(device="cuda:0, cuda:1")
    settings, share = chosen(both, "cuda:1")
    assert (settings.device, share) == ("cuda:1", Share(1, 2))
    with pytest.raises(SettingsError, match=r"lists cuda:0, cuda:1: .*--device"):
        chosen(both, None)
    with pytest.raises(SettingsError, match=r"--device cpu: the settings list cuda:0, cuda:1 only"):
        chosen(both, "cpu")


def test_the_only_device_needs_no_name() -> None:
    assert chosen(Settings(), None) == (Settings(), ALL)


def test_workers_of_a_lane_write_a_journal_each() -> None:
    assert journal_name("cpu", "cpu") == "cpu"
    assert journal_name("gpu", "cuda:1") == "gpu-cuda-1"
