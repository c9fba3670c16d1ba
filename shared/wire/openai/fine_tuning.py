"""/v1/fine_tuning: what is asked, and OpenAI's objects. Times are epoch seconds."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

Auto = Literal["auto"]
Status = Literal[
    "validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"
]
"""OpenAI's own type has no `paused`; its SDK takes it."""
ENDED: tuple[Status, ...] = ("succeeded", "failed", "cancelled")
MethodName = Literal["supervised", "dpo", "reinforcement"]
TrainingType = Literal["lora", "qlora"]
Level = Literal["info", "warn", "error"]
EventType = Literal["message", "metrics"]

Text = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
Suffix = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]*\Z")]
Seed = Annotated[int, Meta(ge=0, le=2_147_483_647)]
MetadataKey = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[^\x00]*$")]
MetadataValue = Annotated[str, Meta(max_length=512, pattern=r"^[^\x00]*$")]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Meta(max_length=16)]
Batch = Annotated[int, Meta(ge=1, le=256)]
Epochs = Annotated[int, Meta(ge=1, le=50)]
Factor = Annotated[float, Meta(gt=0, le=1000)]
Beta = Annotated[float, Meta(gt=0, le=2)]
Fields = dict[str, object]


class Supervised(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=False):
    batch_size: Auto | Batch = "auto"
    learning_rate_multiplier: Auto | Factor = "auto"
    n_epochs: Auto | Epochs = "auto"


class Dpo(Supervised, frozen=True, forbid_unknown_fields=True):
    beta: Auto | Beta = "auto"


class SupervisedMethod(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    hyperparameters: Supervised = Supervised()


class DpoMethod(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    hyperparameters: Dpo = Dpo()


class Method(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: MethodName
    supervised: SupervisedMethod | None = None
    dpo: DpoMethod | None = None
    reinforcement: msgspec.Raw | None = None


class Extension(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What OpenAI's shape has no place for; None: chosen for the base model."""

    training_type: TrainingType | None = None
    rank: Annotated[int, Meta(ge=1, le=256)] | None = None
    alpha: Annotated[int, Meta(ge=1, le=1024)] | None = None
    max_length: Annotated[int, Meta(ge=16, le=1_000_000)] | None = None
    learning_rate: Annotated[float, Meta(gt=0, le=1)] | None = None
    prompts: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=4096, pattern=r"^[^\x00]*\Z")], ...],
        Meta(max_length=32),
    ] = ()
    """Base and tuned model answer them at the end."""
    served_by: Annotated[tuple[Text, ...], Meta(max_length=16)] = ()
    """Other models of the same weights, whose engines serve the result, too."""
    hold: bool = False
    """It pauses once its files are validated and everything is chosen."""


class JobCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: Text
    training_file: Text
    validation_file: Text | None = None
    method: Method | None = None
    hyperparameters: Supervised | None = None
    """Deprecated in favour of `method`."""
    suffix: Suffix | None = None
    seed: Seed | None = None
    metadata: Metadata | None = None
    integrations: list[msgspec.Raw] | None = None
    aihub: Extension = Extension()


class TrainingCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /api/v1/training/jobs: the same job in fewer words."""

    name: Suffix
    base_model: Text
    dataset_path: Text
    training_type: TrainingType = "qlora"


class JobError(msgspec.Struct, frozen=True):
    code: str
    message: str
    param: str | None = None


class JobExtension(msgspec.Struct, frozen=True, kw_only=True):
    project: str
    name: str | None
    step: int
    steps: int | None
    plan: Fields | None
    """Every hyperparameter as it was chosen, and what the job was estimated to take."""
    metrics: Fields | None
    waiting: str | None
    """For what, where there is no room for it on the device."""
    place: int | None
    """Of those that wait, counted from 1."""
    overtaken: int
    """Jobs that began before it while there was no room for it."""


class FineTuningJob(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    error: JobError | None
    fine_tuned_model: str | None
    finished_at: int | None
    hyperparameters: Fields
    model: str
    organization_id: str
    result_files: tuple[str, ...] = ()
    status: Status
    trained_tokens: int | None
    training_file: str
    validation_file: str | None
    seed: int
    estimated_finish: int | None
    integrations: tuple[str, ...] = ()
    metadata: dict[str, str]
    method: Fields
    aihub: JobExtension
    base_model: str | UnsetType = UNSET
    dataset_path: str | UnsetType = UNSET
    training_type: TrainingType | UnsetType = UNSET
    """These three on /api/v1/training/jobs only."""


class JobEvent(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Level
    message: str
    type: EventType
    data: Fields


class JobCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    metrics: Fields
    step_number: int


class PermissionCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    project_ids: Annotated[tuple[Text, ...], Meta(min_length=1, max_length=100)]


class CheckpointPermission(msgspec.Struct, frozen=True):
    id: str
    project_id: str
    """A project, not the model's own, whose keys may use it."""
    created_at: int
    object: Literal["checkpoint.permission"] = "checkpoint.permission"


class PermissionList(msgspec.Struct, frozen=True):
    data: list[CheckpointPermission]
    has_more: bool
    first_id: str | None
    last_id: str | None
    object: Literal["list"] = "list"


class PermissionDeleted(msgspec.Struct, frozen=True):
    id: str
    deleted: bool = True
    object: Literal["checkpoint.permission"] = "checkpoint.permission"


class AliasPut(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`share` of the requests go to `canary`, the others to `target`."""

    target: Text
    canary: Text | None = None
    share: Annotated[float, Meta(ge=0, le=1)] = 0.0


class ModelAlias(msgspec.Struct, frozen=True, kw_only=True):
    """`previous` is what a rollback goes back to."""

    name: str
    object: Literal["model_alias"] = "model_alias"
    target: str
    previous: str | None
    canary: str | None
    share: float
    created_at: int
    changed_at: int
    project: str
