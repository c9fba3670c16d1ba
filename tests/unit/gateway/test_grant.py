"""A key hands on no more than it has."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.routes.admin import grant
from shared.errors import PermissionDenied
from shared.wire.account import SCOPES, Account

WHOLE = Account("key", "proj", "org", "boss", SCOPES)
PART = Account(
    *("key", "proj", "org", "part", ("admin", "inference"), ("a", "b")),
    expires_at=datetime.fromtimestamp(2_000_000_000, UTC),
)


def test_what_a_key_has_it_may_give() -> None:
    grant.check(WHOLE, SCOPES, (), None)
    grant.check(PART, ("inference", "admin.read"), ("b",), 2_000_000_000)


@pytest.mark.parametrize(
    ("scopes", "models", "expires_at", "param"),
    [
        (("inference", "files"), ("a",), 1, "scopes"),
        (("inference",), (), 1, "models"),
        (("inference",), ("a", "c"), 1, "models"),
        (("inference",), ("a",), None, "expires_at"),
        (("inference",), ("a",), 2_000_000_001, "expires_at"),
    ],
)
def test_what_a_key_lacks_it_may_not(
    scopes: Any, models: Any, expires_at: int | None, param: str
) -> None:
    with pytest.raises(PermissionDenied) as refused:
        grant.check(PART, scopes, models, expires_at)
    assert refused.value.param == param
