"""One token out of one row of logits."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from worker.engines.transformers_child.options import Sampling

CANDIDATES = 1024
"""Tokens that are ranked at first; top_p needs more only where a model is very unsure."""


class Sampler:
    """Picks the tokens of one request; with a seed the pick depends on nothing but its place."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int], answer: Sequence[int]) -> None:
        self._sampling = sampling
        self._all = [*prompt, *answer]
        self._counts = Counter(answer)
        self._at = len(answer)
        self._seed = (
            random.SystemRandom().getrandbits(64) if sampling.seed is None else sampling.seed
        )
        self._bias = {int(token): bias for token, bias in sampling.logit_bias.items()}

    def pick(self, logits: torch.Tensor, allowed: torch.Tensor | None) -> int:
        """`logits`: (vocabulary,), 32 bit, on the CPU, changed here; `allowed`: the same, bool."""
        self._punish(logits)
        if allowed is not None:
            logits.masked_fill_(~allowed, -math.inf)
        if self._sampling.temperature == 0:
            token = int(logits.argmax())
        else:
            token = self._draw(logits / self._sampling.temperature)
        self._all.append(token)
        self._counts[token] += 1
        self._at += 1
        return token

    def _punish(self, logits: torch.Tensor) -> None:
        told = self._sampling
        if told.repeat_penalty != 1 and told.repeat_last_n:
            recent = self._all if told.repeat_last_n < 0 else self._all[-told.repeat_last_n :]
            ids = torch.tensor(sorted(set(recent)))
            values = logits[ids]
            logits[ids] = torch.where(
                values > 0, values / told.repeat_penalty, values * told.repeat_penalty
            )
        if self._counts and (told.presence_penalty or told.frequency_penalty):
            ids = torch.tensor(list(self._counts))
            times = torch.tensor(list(self._counts.values()), dtype=logits.dtype)
            logits[ids] -= told.presence_penalty + told.frequency_penalty * times
        for token, bias in self._bias.items():
            if token < len(logits):
                logits[token] += bias

    def _draw(self, logits: torch.Tensor) -> int:
        told = self._sampling
        chance = random.Random(f"{self._seed}:{self._at}").random()
        if told.top_k <= 0 and told.top_p >= 1 and told.min_p <= 0:
            return pick(torch.softmax(logits, -1), None, chance)
        asked = min(told.top_k if told.top_k > 0 else CANDIDATES, len(logits))
        total = None if told.top_k > 0 else torch.logsumexp(logits, -1)
        values, ids = torch.topk(logits, asked)
        if total is not None and float((values - total).exp().sum()) < told.top_p:
            values, ids = torch.sort(logits, descending=True)
        shares = torch.softmax(values, -1) if total is None else (values - total).exp()
        # The token that crosses top_p is in, and the likeliest always is.
        kept = (shares.cumsum(-1) - shares < told.top_p) & (shares >= told.min_p * shares[0])
        kept[0] = True
        return pick(shares * kept, ids, chance)


def pick(shares: torch.Tensor, ids: torch.Tensor | None, chance: float) -> int:
    """The token at `chance` (0 to 1) of the way along `shares`, which need not add up to 1."""
    along = shares.double().cumsum(-1)
    at = min(int(torch.searchsorted(along, chance * float(along[-1]), right=True)), len(along) - 1)
    while at and float(shares[at]) == 0:
        at -= 1
    return at if ids is None else int(ids[at])


def logprobs(row: torch.Tensor, token: int, top: int, spell: Any) -> dict[str, Any]:
    """Of a token, and of the `top` likeliest, by the model alone; `spell` decodes one token."""

    def told(one: int) -> dict[str, Any]:
        text = spell([one])
        return {"token": text, "logprob": float(shares[one]), "bytes": list(text.encode())}

    shares = torch.log_softmax(row, -1)
    likeliest = torch.topk(shares, top).indices.tolist() if top else []
    return told(token) | {"top_logprobs": [told(one) for one in likeliest]}
