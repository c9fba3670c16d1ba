"""What an Ollama server has, as the hub offers it: read again and again, asked for news only."""

from __future__ import annotations

import msgspec

from shared import log
from shared.offers import MOST, NAME
from shared.wire.node import Capability, Offered
from worker.engines.exchange import Refused
from worker.engines.ollama_server import Offer, OllamaServer, Shown, trained_context

CAPABILITIES: dict[str, Capability] = {
    "vision": "images",
    "audio": "audio",
    "tools": "tools",
    "insert": "code",
}
"""Ollama's words and ours. What fills gaps in a text was trained on code."""
MOST_READ = 10 * MOST
"""Models of one list that are looked at."""
LONGEST_SHOWN = 80

logger = log.get("ollama")


class OllamaCatalog:
    """`read` raises EngineLost, EngineFailed, Refused and MsgspecError."""

    def __init__(self, url: str | None) -> None:
        self._server = OllamaServer(url)
        self._known: dict[tuple[str, str], Offered | None] = {}
        """By name and digest; None: a model of a kind that the hub does not serve."""
        self._skipped: frozenset[str] = frozenset()

    async def read(self) -> list[Offered]:
        """All that can be served, in the order of their names."""
        listed = sorted(await self._server.tags(), key=lambda offer: offer.name)[:MOST_READ]
        known: dict[tuple[str, str], Offered | None] = {}
        unclear = []
        for offer in listed:
            key = (offer.name, offer.digest)
            if not NAME.fullmatch(offer.name):
                unclear.append(offer.name)
            elif key in self._known:
                known[key] = self._known[key]
            else:
                try:
                    shown = await self._server.show(offer.name)
                    known[key] = offered(offer, shown)
                except (Refused, msgspec.MsgspecError):
                    # It may have been deleted since; asked again in the next round.
                    unclear.append(offer.name)
        self._known = known
        self._skip(frozenset(unclear))
        return [one for one in known.values() if one is not None]

    def _skip(self, names: frozenset[str]) -> None:
        if names - self._skipped:
            shown = [name[:LONGEST_SHOWN] for name in sorted(names)[:MOST]]
            logger.warning("not offered", models=shown)
        self._skipped = names


def offered(offer: Offer, shown: Shown) -> Offered | None:
    """A model in the hub's words; None for one that neither chats nor embeds. Pure.

    Servers that tell no capabilities have models that complete.
    """
    told = shown.capabilities or offer.capabilities or ("completion",)
    if "completion" not in told and "embedding" not in told:
        return None
    return Offered(
        offer.name,
        "chat" if "completion" in told else "embedding",
        max(0, trained_context(shown) or offer.details.context_length),
        tuple(ours for theirs, ours in CAPABILITIES.items() if theirs in told),
        offer.digest[:64],
    )
