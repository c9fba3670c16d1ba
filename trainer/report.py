"""What a training child says: one JSON object a line on standard output, told apart by `report`."""

from __future__ import annotations

from typing import Literal

import msgspec


class Phase(msgspec.Struct, frozen=True, tag_field="report", tag="phase"):
    """What it has begun: told at once, before anything is known of the data."""

    name: Literal["importing", "loading", "reading", "training", "answering", "writing"]


class Started(msgspec.Struct, frozen=True, kw_only=True, tag_field="report", tag="started"):
    """The first step is next. `step` is what a checkpoint already has, 0 at the very start."""

    step: int
    of: int
    examples: int
    """Samples in one epoch, as they are trained on."""
    truncated: int
    """Samples that were cut at max_length."""
    dropped: int
    """Samples with no token to learn once they were cut."""
    trainable: int
    """Parameters of the adapter."""
    checkpoint: str | None = None
    """The folder's name it goes on from."""


class Step(msgspec.Struct, frozen=True, kw_only=True, tag_field="report", tag="step"):
    step: int
    of: int
    loss: float
    lr: float
    grad_norm: float
    tokens: int
    """Read since the job began, prompts included; an interrupted step counts once."""
    tokens_per_second: float
    """Of this step alone."""
    eta: float
    """Seconds of training that are left."""
    memory: int
    """Peak bytes so far: of torch on the card, else resident in this process."""
    accuracy: float | None = None
    """Share of the learned tokens that were the likeliest; DPO: of pairs told apart rightly."""
    margin: float | None = None
    """DPO: mean reward of the preferred answer over the other's."""


class Validation(msgspec.Struct, frozen=True, kw_only=True, tag_field="report", tag="validation"):
    """On the whole validation file. Step 0 is the base itself."""

    step: int
    loss: float
    accuracy: float | None = None
    margin: float | None = None
    preferred: float | None = None
    """DPO: by how many nats the preferred answers are likelier than by the base, in the mean."""


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, tag_field="report", tag="checkpoint"):
    """`folder` is whole, with its manifest, and beneath the job's; it is a peft adapter as well."""

    step: int
    folder: str
    loss: float | None = None
    accuracy: float | None = None
    valid_loss: float | None = None
    valid_accuracy: float | None = None


class Held(msgspec.Struct, frozen=True, kw_only=True, tag_field="report", tag="held"):
    """It stands still behind `step`, or goes on again."""

    step: int
    held: bool


class Sample(msgspec.Struct, frozen=True, kw_only=True, tag_field="report", tag="sample"):
    """Greedy answers to one test prompt, without and with the adapter."""

    prompt: str
    base: str
    tuned: str


class Yielded(msgspec.Struct, frozen=True, kw_only=True, tag_field="report", tag="yielded"):
    """The last line before exit status 3. The same plan goes on from the checkpoint."""

    step: int
    reason: Literal["pause", "cancel", "stop"]
    checkpoint: str


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """None where there is no validation file."""

    train_loss: float
    """Mean of the last steps, at most ten."""
    valid_loss: float | None = None
    base_valid_loss: float | None = None
    """Of the base without the adapter."""
    accuracy: float | None = None
    """DPO: share of held-out pairs told apart rightly."""
    margin: float | None = None
    repeating: float = 0.0
    """Share of the test prompts whose tuned answer only repeats itself."""
    seconds: float = 0.0
    """Spent in steps, over all runs of the job."""
    peak_memory: int = 0


class Effort(msgspec.Struct, frozen=True, kw_only=True):
    """Of one process; the job may have had others before."""

    steps: int
    tokens: int
    seconds: float
    """Spent in steps."""
    around: float
    """Spent beside them: loading, validating, saving; not standing still."""
    peak: int
    """Bytes: of torch on the card, else resident."""


class Done(msgspec.Struct, frozen=True, kw_only=True, tag_field="report", tag="done"):
    """The last line before exit status 0. Paths are beneath the job's folder."""

    adapter: str
    adapter_gguf: str | None = None
    sha256: str
    """Of the adapter's safetensors file."""
    steps: int
    trained_tokens: int
    metrics: Metrics
    effort: Effort | None = None
    refused: str | None = None
    """Why it should not be published, if so."""


class Broken(msgspec.Struct, frozen=True, kw_only=True, tag_field="report", tag="broken"):
    """The last line before exit status 1."""

    code: Literal[
        "invalid_data", "base_unfit", "out_of_memory", "diverged", "no_checkpoint", "server_error"
    ]
    message: str


Report = Phase | Started | Step | Validation | Checkpoint | Held | Sample | Yielded | Done | Broken


_DECODER: msgspec.json.Decoder[Report] = msgspec.json.Decoder(Report)


def decode(line: bytes | str) -> Report:
    """Raises msgspec.MsgspecError for a line that is no report."""
    return _DECODER.decode(line)
