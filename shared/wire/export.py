"""An export: a tuned model made a file of its project."""

from __future__ import annotations

from typing import Literal

import msgspec

from shared.wire.openai.fine_tuning import Fields, JobError, Text

Format = Literal["adapter", "safetensors", "gguf"]
Quantisation = Literal["q8_0", "f16"]
"""Of a GGUF file; never 4 bits: rounding to so few values undoes what was learned."""
ExportStatus = Literal["queued", "running", "succeeded", "failed"]


class ExportCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`format` and `quantisation` are looked at by whoever can say why not."""

    model: Text
    format: Text
    quantisation: Text | None = None


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """`file_id` names what came of it: a tar of the adapter's or the model's folder, or one GGUF
    file. Times are epoch seconds."""

    id: str
    object: Literal["fine_tuning.export"] = "fine_tuning.export"
    model: str
    format: Format
    quantisation: Quantisation | None
    status: ExportStatus
    file_id: str | None
    bytes: int | None
    error: JobError | None
    created_at: int
    finished_at: int | None


class ExportClaim(msgspec.Struct, frozen=True, kw_only=True):
    """An export is this trainer's for a while; `starts` counts this one."""

    id: str
    project: str
    model: str
    format: Format
    quantisation: Quantisation | None
    fence: int
    starts: int


class ExportSource(msgspec.Struct, frozen=True):
    """A tuned model's files, relative to <home>, and the plan of its job."""

    path: str
    base: str
    plan: Fields
