"""Load a model and answer on a socket; prints `ready` on standard output when it does."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import traceback
import warnings

import torch
from transformers.utils import logging

from shared.lifeline import die_with_parent
from worker.engines.transformers_child.batch import Batch, Said
from worker.engines.transformers_child.encoder import Encoder
from worker.engines.transformers_child.lora import prepare
from worker.engines.transformers_child.model import Language, UnfitError
from worker.engines.transformers_child.options import Options
from worker.engines.transformers_child.running import Speech
from worker.engines.transformers_child.server import Server

READY = "ready"
READING = "reading weights"
WARMING = "warming up"


def main(argv: list[str]) -> int:
    options = Options.decode(argv[1])
    die_with_parent(options.parent, signal.SIGKILL)
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message="Already found a `peft_config`")
    torch.set_num_threads(options.threads)
    if options.cuda and options.memory:
        share = options.memory / torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, share))
    try:
        asyncio.run(serve(options))
    except UnfitError as error:
        print(f"UnfitError: {error}", file=sys.stderr)
        return 1
    return 0


async def serve(options: Options) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    server: Server

    def deliver(said: list[Said]) -> None:
        loop.call_soon_threadsafe(server.deliver, said)

    print(READING, flush=True)
    if options.embedding:
        encoder = Encoder(options)
        batch = Batch(NoSteps(), options.parallel, options.piece, deliver)
        server = Server(encoder, None, batch)
    else:
        model = Language(options)
        print(WARMING, flush=True)
        model.prove()
        speech = Speech(model.tokenizer, model.vocabulary, model.ends, options.context)
        batch = Batch(model, options.parallel, options.piece, deliver)
        server = Server(model, speech, batch)
    threading.excepthook = fatal
    threading.Thread(target=batch.run, daemon=True).start()
    await asyncio.start_unix_server(server.answer, options.socket)
    print(READY, flush=True)
    if not options.embedding:
        threading.Thread(target=prepare, daemon=True).start()
    await ended.wait()
    os._exit(0)


def fatal(raised: threading.ExceptHookArgs) -> None:
    """What went wrong in a step may be wrong with the card: the whole process ends."""
    traceback.print_exception(raised.exc_type, raised.exc_value, raised.exc_traceback)
    sys.stderr.flush()
    os._exit(1)


class NoSteps:
    """An embedding model generates nothing."""

    def step(
        self, first: int, tokens: list[list[int]], places: list[int], names: list[str]
    ) -> torch.Tensor:
        raise RuntimeError("an embedding model was asked to generate")

    def move(self, source: int, target: int, length: int) -> None:
        raise RuntimeError("an embedding model was asked to generate")
