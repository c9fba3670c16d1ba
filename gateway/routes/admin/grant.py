"""What a key may hand on: never more than it has. Pure."""

from __future__ import annotations

from collections.abc import Collection

from shared.errors import PermissionDenied
from shared.wire.account import Account, Scope


def check(
    maker: Account, scopes: Collection[Scope], models: Collection[str], expires_at: int | None
) -> None:
    """Raises PermissionDenied for what `maker` does not have itself. `expires_at`: epoch seconds.

    Limits and budgets are no part of it: whoever administers sets them, its own as well.
    """
    lacking = [scope for scope in scopes if not maker.may(scope)]
    if lacking:
        raise PermissionDenied(
            f"Your key lacks the scope {lacking[0]!r}, so it cannot give it away.", param="scopes"
        )
    if maker.models and (not models or not set(models) <= set(maker.models)):
        raise PermissionDenied(
            f"Your key may use only {', '.join(maker.models)}, so it cannot allow more.",
            param="models",
        )
    if maker.expires_at is not None and (
        expires_at is None or expires_at > maker.expires_at.timestamp()
    ):
        raise PermissionDenied(
            f"Your key expires at {maker.expires_at:%Y-%m-%d %H:%M:%S %Z}, so no key of its making"
            " can live longer.",
            param="expires_at",
        )
