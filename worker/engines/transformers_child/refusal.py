"""What the child refuses, as the reply that says so."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """The caller's fault. `told` is what the reply carries besides the message."""

    def __init__(self, message: str, **told: Any) -> None:
        super().__init__(message)
        self.message = message
        self.told = told

    @property
    def body(self) -> dict[str, Any]:
        return {"error": {"message": self.message, **self.told}}


def too_long(tokens: int, context: int, param: str | None = None) -> Refusal:
    told = {} if param is None else {"param": param}
    return Refusal(
        f"{tokens} tokens are more than the context of {context}",
        n_prompt_tokens=tokens,
        n_ctx=context,
        **told,
    )
