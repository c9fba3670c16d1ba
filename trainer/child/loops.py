"""trl's training loops, told all that the plan has resolved and nothing by default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.optim.lr_scheduler import LambdaLR
from transformers import PrinterCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from trainer.child.model import widen
from trainer.child.watch import Watch
from trainer.child.words import Words
from trainer.plan import Plan
from trainer.schedule import rise, share

CLIP = 1.0
"""Norm of a step's gradient, at most."""


def build(
    plan: Plan, folder: Path, model: Any, words: Words, train: Any, validation: Any, watch: Watch
) -> Any:
    """A trl trainer whose checkpoints lie in `folder`; `model` has its adapter."""
    made = loop(
        plan,
        common(plan, folder, validation is not None),
        model=model,
        train_dataset=train,
        eval_dataset=validation,
        processing_class=words.tokenizer,
        callbacks=[watch],
    )
    made.remove_callback(PrinterCallback)
    if plan.device == "cpu" or plan.hyperparameters.dtype == "float16":
        widen(model)
    return made


def common(plan: Plan, folder: Path, validated: bool) -> dict[str, Any]:
    chosen = plan.hyperparameters
    on_cpu = plan.device == "cpu"
    return {
        "output_dir": str(folder),
        "num_train_epochs": chosen.epochs,
        "per_device_train_batch_size": chosen.batch,
        "per_device_eval_batch_size": chosen.batch,
        "gradient_accumulation_steps": chosen.accumulation,
        "learning_rate": chosen.learning_rate,
        "weight_decay": 0.0,
        "max_grad_norm": CLIP,
        "optim": "adamw_torch" if chosen.optimiser == "adamw" else chosen.optimiser,
        "seed": chosen.seed,
        "data_seed": chosen.seed,
        "use_cpu": on_cpu,
        "bf16": chosen.dtype == "bfloat16",
        "fp16": chosen.dtype == "float16",
        "gradient_checkpointing": chosen.checkpointing,
        "max_length": chosen.max_length,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "include_num_input_tokens_seen": "non_padding",
        "save_strategy": "steps",
        "save_steps": chosen.checkpoint_every,
        "eval_strategy": "steps" if validated and chosen.validate_every else "no",
        "eval_steps": chosen.validate_every or None,
        "dataloader_pin_memory": not on_cpu,
        "report_to": "none",
        "disable_tqdm": True,
    }


class Ours:
    """What both of trl's loops do as we want it; `warmup` is a share of the steps."""

    warmup: float

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: a checkpoint holds what is needed to go on."""

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        steps, rising = num_training_steps, rise(num_training_steps, self.warmup)
        if self.lr_scheduler is None:
            self.lr_scheduler: Any = LambdaLR(
                optimizer or self.optimizer,  # type: ignore[attr-defined]
                lambda step: share(step, steps, rising),
            )
        return self.lr_scheduler


class Supervised(Ours, SFTTrainer):  # type: ignore[misc]
    """Tokens and labels are made already: see words.py."""


class Preference(Ours, DPOTrainer):  # type: ignore[misc]
    """The reference is the base: the same model with its adapter off."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset


def loop(plan: Plan, arguments: dict[str, Any], **given: Any) -> Any:
    made: Any
    if plan.method == "dpo":
        settings = DPOConfig(**arguments, beta=plan.hyperparameters.beta)
        made = Preference(args=settings, **given)
    else:
        prepared = {"dataset_kwargs": {"skip_prepare_dataset": True}}
        made = Supervised(args=SFTConfig(**arguments, **prepared), **given)
    made.warmup = plan.hyperparameters.warmup
    return made
