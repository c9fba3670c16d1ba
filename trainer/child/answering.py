"""What base and tuned model answer to the user's test prompts, greedily."""

from __future__ import annotations

from typing import Any

import torch

from trainer.child.words import Words
from trainer.example import Example, Message
from trainer.report import Sample


def side_by_side(model: Any, words: Words, prompt: str, tokens: int) -> Sample:
    """`model` is the base with its adapter on."""
    model.eval()
    with model.disable_adapter():
        base = answer(model, words, prompt, tokens)
    return Sample(prompt=prompt, base=base, tuned=answer(model, words, prompt, tokens))


def answer(model: Any, words: Words, prompt: str, tokens: int) -> str:
    messages = (Message("user", prompt),)
    text = words.render(Example(messages), messages, ask=True)
    read = words.tokenizer(text, add_special_tokens=False, return_tensors="pt").to(model.device)
    with torch.inference_mode():
        made = model.generate(
            **read,
            max_new_tokens=tokens,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            use_cache=True,
            eos_token_id=sorted(words.ends),
            pad_token_id=words.tokenizer.pad_token_id,
        )
    begun = read["input_ids"].shape[1]
    said = str(words.tokenizer.decode(made[0][begun:], skip_special_tokens=True))
    return said.replace("\x00", "\ufffd").strip()  # jsonb takes no NUL
