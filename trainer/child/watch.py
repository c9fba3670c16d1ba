"""What happens between two steps: reports, orders, checkpoints that count once they are sealed."""

from __future__ import annotations

import math
import resource
import time
from pathlib import Path
from typing import Any

import msgspec
import torch
from transformers import TrainerCallback

from trainer import manifest
from trainer.child.journal import Journal, Told
from trainer.child.wire import Wire
from trainer.health import Trend
from trainer.plan import Plan
from trainer.report import Checkpoint, Effort, Held, Started, Step, Validation

PROGRESS = "progress.json"
ACCURACY = {"supervised": "mean_token_accuracy", "dpo": "rewards/accuracies"}
MARGIN = "rewards/margins"
PREFERRED = "rewards/chosen"
"""beta times the log of how much likelier it is than by the base."""


class Progress(msgspec.Struct, kw_only=True):
    """What a checkpoint keeps of the figures, beside the trainer's own state."""

    seconds: float = 0.0
    trend: Trend = msgspec.field(default_factory=Trend)
    accuracy: float | None = None
    """Of the latest step."""
    base_valid_loss: float | None = None
    valid_loss: float | None = None
    valid_accuracy: float | None = None
    valid_margin: float | None = None
    peak: int = 0

    @classmethod
    def read(cls, folder: Path) -> Progress:
        return msgspec.json.decode((folder / PROGRESS).read_bytes(), type=cls)


class DivergedError(Exception):
    pass


class Watch(TrainerCallback):  # type: ignore[misc]
    """transformers tells it of every step; `started` is reported when the first one is next."""

    def __init__(
        self, plan: Plan, folder: Path, wire: Wire, started: Started, progress: Progress
    ) -> None:
        """Raises OSError."""
        self.progress = progress
        self._journal = Journal(folder, started.step)
        self.step = started.step
        self.latest: str | None = started.checkpoint
        self._plan = plan
        self._folder = folder
        self._wire = wire
        self._started = started
        self._tokens = 0
        self._begun = 0.0
        self._spent = 0.0
        self._seconds = 0.0
        self._done = 0
        self._known = 0
        self._judged: int | None = None

    def judged(self, step: int) -> bool:
        """Whether the validation file was last read behind this step."""
        return self._judged == step

    def repeat(self) -> None:
        """Tells again what was told of earlier steps: a trainer may have missed some of it."""
        for told in self._journal.told:
            self._wire.say(told)
        for _, path in reversed(manifest.steps(self._folder)):
            if (made := manifest.read(path)) is not None:
                self._wire.say(checkpoint(path, made))

    def effort(self) -> Effort:
        """Of this process, at its end."""
        self.progress.peak = max(self.progress.peak, peak(self._plan.device))
        alive = time.monotonic() - self._wire.began - self._wire.stood
        return Effort(
            steps=self._done,
            tokens=int(self._tokens - self._known),
            seconds=self._seconds,
            around=max(0.0, alive - self._seconds),
            peak=peak(self._plan.device),
        )

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._tokens = self._known = state.num_input_tokens_seen
        self._wire.say(
            msgspec.structs.replace(self._started, step=state.global_step, of=state.max_steps)
        )

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._begun = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._spent = time.monotonic() - self._begun
        self.progress.seconds += self._spent
        self._seconds += self._spent
        self._done += 1
        self.step = state.global_step

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Comes behind on_step_end and before a validation or a checkpoint of that step."""
        if logs is None:
            return
        if "eval_loss" in logs:
            self._validated(state.global_step, logs)
        elif "loss" in logs:
            self._stepped(state, logs)
            self._obey(state, control)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = self._folder / f"checkpoint-{state.global_step}"
        progress = self.progress
        (folder / PROGRESS).write_bytes(msgspec.json.encode(progress))
        self._journal.sync()
        judged = self.judged(state.global_step)
        made = manifest.seal(
            folder,
            state.global_step,
            loss=progress.trend.recent[-1],
            accuracy=progress.accuracy,
            valid_loss=progress.valid_loss if judged else None,
            valid_accuracy=progress.valid_accuracy if judged else None,
        )
        manifest.prune(self._folder, self._plan.hyperparameters.keep)
        self.latest = folder.name
        self._wire.say(checkpoint(folder, made))

    def _stepped(self, state: Any, logs: dict[str, Any]) -> None:
        progress, loss, norm = self.progress, float(logs["loss"]), float(logs.get("grad_norm", 0.0))
        progress.peak = max(progress.peak, peak(self._plan.device))
        reason = progress.trend.add(loss)
        if reason is None and not math.isfinite(norm):
            # The scaler of float16 meets infinities now and then, and leaves those steps out.
            if self._plan.hyperparameters.dtype != "float16":
                reason = f"The gradient of step {state.global_step} is not a number."
            norm = 0.0
        if reason is not None:
            raise DivergedError(reason)
        read = state.num_input_tokens_seen - self._tokens
        self._tokens = state.num_input_tokens_seen
        each = progress.seconds / progress.trend.steps
        progress.accuracy = logs.get(ACCURACY[self._plan.method])
        self._tell(
            Step(
                step=state.global_step,
                of=state.max_steps,
                loss=loss,
                lr=float(logs["learning_rate"]),
                grad_norm=norm,
                tokens=int(state.num_input_tokens_seen),
                tokens_per_second=read / max(1e-9, self._spent),
                eta=each * (state.max_steps - state.global_step),
                memory=progress.peak,
                accuracy=progress.accuracy,
                margin=logs.get(MARGIN),
            )
        )

    def _obey(self, state: Any, control: Any) -> None:
        if self._wire.held:
            self._wire.say(Held(step=state.global_step, held=True))
            self._wire.wait_while_held()
            self._wire.say(Held(step=state.global_step, held=False))
        if self._wire.reason is not None:
            control.should_training_stop = True
            control.should_save = True

    def _validated(self, step: int, logs: dict[str, Any]) -> None:
        progress = self.progress
        loss = float(logs["eval_loss"])
        accuracy = logs.get(f"eval_{ACCURACY[self._plan.method]}")
        if not math.isfinite(loss):
            raise DivergedError("The validation loss is not a number.")
        progress.valid_loss, progress.valid_accuracy = loss, accuracy
        progress.valid_margin = logs.get(f"eval_{MARGIN}")
        self._judged = step
        if step == 0:
            progress.base_valid_loss = loss
        reward = logs.get(f"eval_{PREFERRED}")
        self._tell(
            Validation(
                step=step,
                loss=loss,
                accuracy=accuracy,
                margin=progress.valid_margin,
                preferred=None if reward is None else reward / self._plan.hyperparameters.beta,
            )
        )

    def _tell(self, said: Told) -> None:
        self._journal.add(said)
        self._wire.say(said)


def checkpoint(folder: Path, made: manifest.Manifest) -> Checkpoint:
    return Checkpoint(
        step=made.step,
        folder=folder.name,
        loss=made.loss,
        accuracy=made.accuracy,
        valid_loss=made.valid_loss,
        valid_accuracy=made.valid_accuracy,
    )


def peak(device: str) -> int:
    """Bytes: of torch's allocator on the card, else of this process."""
    if device == "cuda":
        return int(torch.cuda.max_memory_reserved())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
