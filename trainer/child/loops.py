"""trl's training loops, told all that the plan has resolved and nothing by default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PrinterCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from trainer.child.model import widen
from trainer.child.watch import Watch
from trainer.child.words import Words
from trainer.plan import Plan

CLIP = 1.0
"""Norm of a step's gradient, at most."""


def build(
    plan: Plan, folder: Path, model: Any, words: Words, train: Any, validation: Any, watch: Watch
) -> Any:
    """A trl trainer whose checkpoints lie in `folder`; `model` has its adapter."""
    made = LOOPS[plan.method](plan, common(plan, folder, validation is not None))(
        model=model,
        train_dataset=train,
        eval_dataset=validation,
        processing_class=words.tokenizer,
        callbacks=[watch],
    )
    made.remove_callback(PrinterCallback)
    if plan.device == "cpu":
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
        "lr_scheduler_type": "linear",
        "warmup_steps": chosen.warmup,
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


def supervised(plan: Plan, arguments: dict[str, Any]) -> Any:
    """Tokens and labels are made already: see words.py."""

    class Supervised(SFTTrainer):  # type: ignore[misc]
        def create_model_card(self, *args: Any, **kwargs: Any) -> None:
            """None: a checkpoint holds what is needed to go on."""

    settings = SFTConfig(**arguments, dataset_kwargs={"skip_prepare_dataset": True})
    return lambda **given: Supervised(args=settings, **given)


def preference(plan: Plan, arguments: dict[str, Any]) -> Any:
    """The reference is the base: the same model with its adapter off."""

    class Preference(DPOTrainer):  # type: ignore[misc]
        def create_model_card(self, *args: Any, **kwargs: Any) -> None:
            """None: a checkpoint holds what is needed to go on."""

        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset

    settings = DPOConfig(**arguments, beta=plan.hyperparameters.beta)
    return lambda **given: Preference(args=settings, **given)


LOOPS = {"supervised": supervised, "dpo": preference}
