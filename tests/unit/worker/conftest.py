from __future__ import annotations

import pytest

from worker import choice


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause between two engines."""
    monkeypatch.setattr(choice, "PAUSE", 0.0)
