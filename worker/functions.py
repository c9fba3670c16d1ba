"""The arq functions of a lane: what each kind of job does."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from shared import log
from shared.defaults import LIMITS, filled
from shared.errors import EngineFailed, HubError
from shared.wire.event import Answer, Done, Progress, Usage
from worker.choice import (
    BROKEN,
    ENGINE_TRIES,
    PAUSE,
    ChoiceRun,
    decode_body,
    spread,
    together,
)
from worker.engines.base import EngineLost
from worker.meter import Known
from worker.request import Request

NOTHING = Progress("", 0)

logger = log.get("functions")


def keep_alive(bodies: list[dict[str, Any]]) -> float | None:
    """Takes out what a request says of its model's stay: seconds, as Ollama's callers send it."""
    given = [body.pop("keep_alive", None) for body in bodies]
    return float(given[0]) if given and isinstance(given[0], int | float) else None


def capped(body: dict[str, Any], most: int) -> dict[str, Any]:
    """The body of a choice that may have `most` tokens; 0: any number."""
    if most:
        given = [name for name in LIMITS if body.get(name) is not None]
        body |= {name: min(body[name], most) for name in given} or {LIMITS[0]: most}
    return body


async def generate(request: Request, kind: Literal["chat", "completion"]) -> None:
    task = request.claimed.task
    position = await request.position()
    if position.index == 0:
        request.begin()
    bodies, per_prompt = spread(kind, task.body)
    defaults = request.defaults
    request.keep_alive = keep_alive(bodies)
    before = [position.choices.get(choice, NOTHING) for choice in range(len(bodies))]
    runs = {
        choice: ChoiceRun(request, choice, progress)
        for choice, progress in enumerate(before)
        if progress.usage is None
    }
    request.meter.count(
        [
            runs.get(choice) or Known(progress.usage or Usage())
            for choice, progress in enumerate(before)
        ],
        per_prompt,
    )
    if runs and position.broken:
        raise EngineFailed(BROKEN)
    await together(
        [
            run.run(kind, capped(filled(defaults, bodies[choice]), task.most))
            for choice, run in runs.items()
        ]
    )
    usage = request.meter.usage
    if request.streamed:
        request.emit(Done(usage))
    else:
        request.emit(Answer([run.choice() for run in runs.values()], usage))


async def refuse(request: Request, error: HubError) -> None:
    """Tells who waits that the model cannot be had."""
    await request.position()
    raise error


async def chat(ctx: dict[str, Any]) -> None:
    """arq function: one chat completion."""
    request: Request = ctx["request"]
    await request.answer(generate(request, "chat"))


async def completion(ctx: dict[str, Any]) -> None:
    """arq function: one text completion."""
    request: Request = ctx["request"]
    await request.answer(generate(request, "completion"))


async def embedding(ctx: dict[str, Any]) -> None:
    """arq function: the embeddings of one request."""
    request: Request = ctx["request"]
    await request.answer(embed(request))


async def embed(request: Request) -> None:
    position = await request.position()
    task = request.claimed.task
    if position.index == 0:
        request.begin()
    body = decode_body(task.body)
    given = body["input"]
    inputs = given if isinstance(given, list) else [given]
    if inputs and isinstance(inputs[0], int):
        inputs = [inputs]
    for tries in range(1, ENGINE_TRIES + 1):
        engine = await request.engine()
        try:
            with request.meter.computing():
                vectors = await engine.embed(inputs, body.get("dimensions"))
        except EngineLost as error:
            logger.warning("engine lost", job=task.id, tries=tries, error=str(error))
            await asyncio.sleep(PAUSE * tries)
        else:
            request.meter.begin()
            request.meter.count([Known(vectors.usage)])
            request.emit(vectors)
            return
    raise EngineFailed(f"The engine broke {ENGINE_TRIES} times on this request.")
