"""The options of `aihub models`. Imports nothing of weight."""

from __future__ import annotations

import argparse

HUB = {
    "status": "what is loaded where, in bytes; what waits, and what was decided last",
    "load": "load a model, or an adapter and its base, and show how far it is",
    "unload": "let a model go when those it serves are answered; a pin goes with it",
    "pin": "load a model and never let it go, until its worker restarts",
    "unpin": "let a pinned model go when it is idle or its room is needed",
}


def add_models(models: argparse.ArgumentParser) -> None:
    models.add_argument("--fetch", action="store_true", help="fetch what is missing")
    actions = models.add_subparsers(dest="action", metavar="[ACTION]")
    for name, text in HUB.items():
        one = actions.add_parser(name, help=text, description=text)
        one.add_argument("--base-url", help="another hub (default: this one)")
        one.add_argument("--key", dest="admin", help="an admin key (default, here only: ours)")
        one.add_argument("name", nargs="?" if name == "status" else None, help="name or alias")
        if name == "status":
            one.add_argument("--json", action="store_true", help="all of it, bytes and seconds")
            one.add_argument("--watch", action="store_true", help="again every second")
        else:
            one.add_argument("--worker", help="only there; see `aihub models status`")
        if name == "load":
            one.add_argument("--pin", action="store_true", help="and pin it")
    add_estimate(actions)


def add_estimate(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "print what a model will hold, and what fits, without loading anything"
    one = actions.add_parser(
        "estimate", help=text, description=f"{text}; exit status 3: it does not fit"
    )
    one.add_argument("name", help="a model of the settings, a GGUF file or a Hugging Face folder")
    one.add_argument("--context", type=int, help="tokens of one request, answer included")
    one.add_argument("--parallel", type=int, help="requests at once")
    one.add_argument("--device", help="its memory, e.g. 16GiB (default, on a CPU: this machine's)")
    one.add_argument("--engine", choices=("llamacpp", "vllm", "transformers"))
    one.add_argument("--on", choices=("cpu", "cuda"), help="where it runs")
    one.add_argument("--dtype", choices=("auto", "float32", "float16", "bfloat16"))
    one.add_argument("--json", action="store_true", help="all numbers, in bytes")
