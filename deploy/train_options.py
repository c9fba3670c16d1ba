"""The options of `aihub train`. Imports nothing of weight."""

from __future__ import annotations

import argparse


def add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base-url", help="another hub (default: this one)")
    parser.add_argument("--key", dest="admin", help="a key with the scopes training and files")
    action = parser.add_subparsers(dest="action", metavar="ACTION", required=True).add_parser
    made = action("create", help="upload a file, fine-tune a model with it, and follow the job")
    add_job(made)
    made.add_argument("--detach", action="store_true", help="print the job's id and leave")
    told = action("estimate", help="check a file, and say what such a job would be and take")
    add_job(told)
    action("list", help="the newest jobs").add_argument("--last", type=int, default=20)
    words = {
        "watch": "follow a job to its end",
        "cancel": "end a job",
        "pause": "have a job write a checkpoint and wait",
        "resume": "have a paused job go on",
    }
    for name, text in words.items():
        action(name, help=text).add_argument("job", help="its id")
    picture = action("loss", help="the loss of a job as a picture")
    picture.add_argument("job", help="its id")
    picture.add_argument("--to", metavar="FILE", help="default: JOB.svg")
    taken = action("export", help="a tuned model as a file")
    taken.add_argument("model", help="its name, ft:…")
    taken.add_argument(
        "--format",
        choices=("adapter", "safetensors", "gguf"),
        required=True,
        help="the adapter alone, or its base with it merged in; a tar, or one GGUF file",
    )
    taken.add_argument("--quantisation", help="of a GGUF file: q8_0 (default) or f16")
    taken.add_argument("--out", metavar="PATH", help="default: by the model's name")


def add_job(made: argparse.ArgumentParser) -> None:
    made.add_argument("file", help="JSONL: conversations, or pairs of preferences")
    made.add_argument("--model", required=True, help="the base model")
    made.add_argument("--name", help="a part of the new model's name")
    made.add_argument("--validation", metavar="FILE", help="what it is judged by")
    made.add_argument("--method", choices=("supervised", "dpo"), default="supervised")
    made.add_argument("--type", choices=("lora", "qlora"), help="default: by the base")
    made.add_argument("--epochs", type=int)
    made.add_argument("--batch", type=int, help="examples of one step")
    made.add_argument("--rate", type=float, help="multiplies the usual learning rate")
    made.add_argument("--seed", type=int)
    made.add_argument("--served-by", action="append", metavar="MODEL", help="of the same weights")
    made.add_argument("--prompt", action="append", help="both models answer it at the end")
