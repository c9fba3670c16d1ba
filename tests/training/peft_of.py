"""Whether an exported adapter and an exported folder are the same model, and not their base.

`python peft_of.py BASE ADAPTER MERGED TEXT`, by an interpreter that has torch and peft,
prints two numbers: by how much the logits of base + adapter differ at most from the merged
folder's, and from the base's. Imports nothing of ours.
"""

from __future__ import annotations

import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(base: str, adapter: str, merged: str, text: str) -> None:
    torch.set_num_threads(1)
    tokens = AutoTokenizer.from_pretrained(merged)(text, return_tensors="pt")
    with torch.no_grad():
        plain = AutoModelForCausalLM.from_pretrained(base)(**tokens).logits
        whole = AutoModelForCausalLM.from_pretrained(merged)(**tokens).logits
        under = AutoModelForCausalLM.from_pretrained(base)
        tuned = PeftModel.from_pretrained(under, adapter)(**tokens).logits
    print((tuned - whole).abs().max().item(), (tuned - plain).abs().max().item())


if __name__ == "__main__":
    main(*sys.argv[1:])
