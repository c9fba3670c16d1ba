"""Which store the settings name."""

from __future__ import annotations

from collections.abc import Callable

from shared.db import Pool
from shared.files import address
from shared.files.arrival import Bounds
from shared.files.blobs import Blobs
from shared.files.disk import Disk
from shared.files.files import Files
from shared.settings import Settings
from shared.size import parse_size


def blobs(settings: Settings) -> Blobs:
    """Raises OSError for a folder that cannot be made."""
    if settings.file_store_url is None:
        return Disk(settings.folder / "files")
    # An HTTP client takes a while to import, and most hubs have no use for it.
    from shared.files.s3 import S3

    return S3(address.parse(settings.file_store_url))


def bounds(settings: Settings) -> Bounds:
    return Bounds(parse_size(settings.file_quota), parse_size(settings.file_limit))


def files(settings: Settings, pool: Callable[[], Pool]) -> Files:
    """For a process that has no sweeper of its own; the gateways' find what it leaves."""
    return Files(pool, blobs(settings), bounds(settings), swept=lambda: None)
