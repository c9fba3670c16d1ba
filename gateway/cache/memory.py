"""What was answered before: the same request first, then one that means the same."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Literal, NamedTuple

import msgspec

from gateway.ask import Ask
from gateway.cache import kept as form
from gateway.cache.kept import Kept
from gateway.cache.responses import Hit, Responses, Tell, Turn
from gateway.cache.terms import ANY_AGE, Terms
from gateway.semantic import semantic
from gateway.semantic.semantic import Miss, Semantic
from shared import log
from shared.catalog import Entry
from shared.wire.account import Account

logger = log.get("cache")
Files = Callable[[Entry], str | None]
Recompute = Callable[[], Awaitable[Kept | None]]

How = Literal["hit", "joined", "semantic"]


class Found(NamedTuple):
    """`joined`: it was being computed for another when this request came. `age` in seconds."""

    kept: Kept
    age: int
    how: How


class Pending:
    """An answer to compute. Whoever has one ends it with `close`."""

    def __init__(
        self,
        turn: Turn | None,
        keep_meant: Callable[[bytes], None] | None,
        stands: Callable[[], bool],
    ) -> None:
        self._turn = turn
        self._stands = stands
        self._keep_meant = keep_meant
        self.alone = False
        """Whether those who wait for it had better not try one after the other."""

    async def keep(self, kept: Kept | None) -> None:
        """Keeps the answer and lets those who wait have it; None cannot be kept.

        Nor can one whose model has other files now than when it was begun.
        """
        if not self._stands():
            kept = None
        if self._turn is not None:
            await self._turn.keep(kept)
        if kept is not None and self._keep_meant is not None and form.text_of(kept):
            self._keep_meant(form.encode(kept))

    def close(self) -> None:
        """Lets others go on, if nothing was kept for them."""
        if self._turn is not None:
            self._turn.alone |= self.alone
            self._turn.close()


class Memory:
    """One per gateway process."""

    def __init__(self, responses: Responses, semantic: Semantic, files: Files) -> None:
        """`files` names what a model answers from, as Dispatch does."""
        self._files = files
        self._responses = responses
        self._semantic = semantic
        self.largest = responses.largest
        """Bytes of an answer that is worth holding on to."""

    async def find(
        self,
        ask: Ask,
        account: Account,
        wanted: Terms,
        end: float,
        tell: Tell,
        recompute: Recompute,
    ) -> Found | Pending | None:
        """The answer, or what to do with a computed one; None: nothing, it is not kept.

        `recompute` computes it for a check. Raises TimeoutError at `end`, on the event loop's
        clock, which `tell` is called before now and then.
        """
        exact = self._responses.wants(ask, account, wanted)
        meant = ask.kind == "chat" and account.cache.semantic.enabled and wanted.look
        identity = self._files(ask.entry) if exact or meant else None
        if identity is None:
            return None
        turn: Turn | None = None
        if exact:
            place = self._responses.place(ask, account, identity)
            found = await self._responses.find(place, wanted, end, tell)
            if isinstance(found, Hit):
                return Found(found.kept, found.age_ms // 1000, "joined" if found.joined else "hit")
            turn = found
        stands = partial(self._stands, ask.entry, identity)
        if not meant:
            return Pending(turn, None, stands)
        try:
            similar = await self._meant(ask, account, wanted, identity, recompute)
        except BaseException:
            if turn is not None:
                turn.close()
            raise
        if isinstance(similar, Found):
            if turn is not None:
                # Who waits asks for the same, and finds this answer faster than one by one.
                turn.alone = True
                turn.close()
            return similar
        if turn is None and similar is None:
            return None
        keep_meant = None if similar is None else partial(self._semantic.keep_soon, similar)
        return Pending(turn, keep_meant, stands)

    def _stands(self, entry: Entry, identity: str) -> bool:
        """Whether the model still has the files that it had."""
        return self._files(entry) == identity

    async def _meant(
        self, ask: Ask, account: Account, wanted: Terms, identity: str, recompute: Recompute
    ) -> Found | Miss | None:
        fingerprint = f"{ask.fingerprint} {identity}"
        looked = await self._semantic.look(ask.body, ask.entry, fingerprint, account, ask.service)
        if not isinstance(looked, semantic.Hit):
            return looked
        try:
            kept = form.decode(looked.answer)
        except msgspec.MsgspecError as error:
            logger.error("kept in another form", error=str(error))
            return None
        age = max(0, int(time.time()) - kept.created)
        if wanted.oldest_ms != ANY_AGE and age * 1000 > wanted.oldest_ms:
            return None
        served = form.text_of(kept)

        async def computed() -> str | None:
            again = await recompute()
            return None if again is None else form.text_of(again)

        self._semantic.check_soon(looked, account, served or "", computed)
        return Found(kept, age, "semantic")
