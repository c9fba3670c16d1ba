"""Files and uploads: what callers send and see. Times are epoch seconds."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

import msgspec

Purpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
"""What a caller may say a file is for."""
KEPT = Literal[Purpose, "assistants_output", "batch_output", "fine-tune-results"]
"""The same, and what the hub itself makes files for."""

SOONEST, LATEST = 3_600, 2_592_000
"""Seconds after which a file may be told to expire."""
MOST_PARTS = 10_000
LONGEST_NAME = 255

Filename = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_NAME)]


class ExpiresAfter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    anchor: Literal["created_at"]
    seconds: Annotated[int, msgspec.Meta(ge=SOONEST, le=LATEST)]


class UploadCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`bytes`: how many the parts will have together."""

    bytes: Annotated[int, msgspec.Meta(ge=1)]
    filename: Filename
    mime_type: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    purpose: Purpose
    expires_after: ExpiresAfter | None = None


class UploadComplete(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parts in their order; `md5` in hex, of all of them."""

    part_ids: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=MOST_PARTS)]
    md5: Annotated[str, msgspec.Meta(pattern="^[0-9a-fA-F]{32}$")] | None = None


class FileObject(msgspec.Struct, frozen=True):
    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: KEPT
    expires_at: int | None
    object: Literal["file"] = "file"
    status: Literal["processed"] = "processed"
    """A file is there whole or not at all, so it is never anything else."""
    status_details: None = None


class FileList(msgspec.Struct, frozen=True):
    """`first_id` and `last_id` are empty where the list is."""

    data: list[FileObject]
    first_id: str
    last_id: str
    has_more: bool
    object: Literal["list"] = "list"


class FileDeleted(msgspec.Struct, frozen=True):
    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


class UploadObject(msgspec.Struct, frozen=True):
    """`expires_at`: until when parts may come. `file` is there once it is completed."""

    id: str
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: Purpose
    status: Literal["pending", "completed", "cancelled", "expired"]
    object: Literal["upload"] = "upload"
    file: FileObject | None = None


class PartObject(msgspec.Struct, frozen=True):
    id: str
    created_at: int
    upload_id: str
    object: Literal["upload.part"] = "upload.part"
