"""Serving while a job trains on the same device, by the whole hub with the real child.

`python -m tests.bench.training PYTHON [REQUESTS]`: PYTHON has torch, trl and peft. The embedded
model answers a stream every PAUSE seconds, without a job and with one that trains the same model;
printed are the times to the first token, and the steps of the job while requests came and while
none did.
"""

from __future__ import annotations

import io
import json
import sys
import time

from openai import OpenAI

from tests.bench.figures import percentile, table
from tests.hub import Hub, running_hub

PAUSE = 1.0
QUIET = 60.0
"""Seconds without a request."""
WITHIN = 900.0
MODEL = "chat"
TOML = """
train_python = "{python}"
[models.chat]
engine = "llamacpp"
file = "smollm2-135m-instruct.q8_0.gguf"
context = 512
threads = 1
"""


def first_token(sdk: OpenAI, number: int) -> float:
    """Milliseconds; the answer is read to its end."""
    began = time.perf_counter()
    stream = sdk.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": f"Tell me about the number {number}."}],
        stream=True,
        max_tokens=24,
        temperature=0,
    )
    first = 0.0
    for chunk in stream:
        if not first and chunk.choices and chunk.choices[0].delta.content:
            first = (time.perf_counter() - began) * 1000
    return first


def ask(sdk: OpenAI, requests: int) -> list[float]:
    times = []
    for number in range(requests):
        times.append(first_token(sdk, number))
        time.sleep(PAUSE)
    return sorted(times)


def create(sdk: OpenAI) -> str:
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"What lives in box {number}?"},
                {"role": "assistant", "content": f"A kestrel numbered {number * 7} does."},
            ]
        }
        for number in range(64)
    ]
    content = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    file = sdk.files.create(file=("boxes.jsonl", io.BytesIO(content)), purpose="fine-tune")
    job = sdk.fine_tuning.jobs.create(
        model=MODEL,
        training_file=file.id,
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 50, "batch_size": 2}},
        },
    )
    return job.id


def step(sdk: OpenAI, job: str) -> int:
    extra = sdk.fine_tuning.jobs.retrieve(job).model_extra or {}
    return int(extra["aihub"]["step"])


def measure(hub: Hub, requests: int) -> None:
    with OpenAI(base_url=hub.base_url, api_key=hub.key) as sdk:
        first_token(sdk, 0)
        alone = ask(sdk, requests)
        job = create(sdk)
        deadline = time.monotonic() + WITHIN
        while step(sdk, job) < 2:
            assert time.monotonic() < deadline, sdk.fine_tuning.jobs.retrieve(job)
            time.sleep(1)
        before, began = step(sdk, job), time.monotonic()
        beside = ask(sdk, requests)
        between, asked = step(sdk, job), time.monotonic()
        time.sleep(QUIET)
        after = step(sdk, job)
        sdk.fine_tuning.jobs.cancel(job)
    rows = [
        (name, percentile(times, 50), percentile(times, 95), times[-1])
        for name, times in (("alone", alone), ("beside a job", beside))
    ]
    head = ("ms to the first token", "p50", "p95", "longest")
    print(table(f"{requests} streams, one every {PAUSE:g} s", head, rows))
    print(f"p95 beside a job: {rows[1][2] / rows[0][2]:.2f} of that alone")
    print(f"steps in {asked - began:.0f} s of requests: {between - before}")
    print(f"steps in {QUIET:.0f} s without: {after - between}")


def main(python: str, requests: str = "40") -> None:
    with running_hub(TOML.format(python=python)) as hub:
        measure(hub, int(requests))


if __name__ == "__main__":
    main(*sys.argv[1:])
