"""What is learned of each example: `python learned.py TOKENIZER_FOLDER`, a question as JSON on
standard input. Run by the interpreter of the environment with transformers."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def main() -> None:
    entry = ROOT / "trainer" / "child" / "bootstrap.py"
    spec = importlib.util.spec_from_file_location("bootstrap", entry)
    bootstrap = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bootstrap)
    bootstrap.find_ours()
    from trainer.child.words import Words
    from trainer.example import Unusable, read

    words = Words(Path(sys.argv[1]))
    own = words.tokenizer.chat_template
    json.dump(
        [answer(words, own, read, Unusable, each) for each in json.load(sys.stdin)], sys.stdout
    )


def answer(words: object, own: str, read: object, refused: type, asked: dict) -> list:
    words.tokenizer.chat_template = words._template = asked["template"] or own
    decode = words.tokenizer.decode
    answers = []
    for line in asked["lines"]:
        example = read(json.dumps(line).encode(), asked["method"])
        try:
            if asked["method"] == "dpo":
                pair = words.pair(example)
                answers.append([decode(each) for each in (pair.prompt, pair.chosen, pair.rejected)])
                continue
            samples = words.samples(example)
            answers.append([[decode(each.ids), spans(each, decode)] for each in samples])
        except refused as error:
            answers.append(error.fault.code)
    return answers


def spans(sample: object, decode: object) -> list[str]:
    """Runs of learned tokens."""
    found, run = [], []
    for token, label in zip(sample.ids, sample.labels, strict=True):
        if label != -100:
            run.append(token)
        elif run:
            found.append(decode(run))
            run = []
    return found + ([decode(run)] if run else [])


if __name__ == "__main__":
    main()
