"""Where an S3-compatible store is: `s3+https://KEY:SECRET@HOST[:PORT]/BUCKET[/PREFIX]?region=…`."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

SCHEMES = ("s3+https", "s3+http")
BUCKET = re.compile(r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")
PREFIX = re.compile(r"^[A-Za-z0-9._/-]{0,200}$")
USUAL_REGION = "us-east-1"


class Address(NamedTuple):
    """`origin` is `http(s)://host[:port]`; `prefix` is empty or ends with a slash."""

    origin: str
    host: str
    bucket: str
    prefix: str
    access_key: str
    secret_key: str
    region: str


def parse(url: str) -> Address:
    """Raises ValueError, which does not tell the secret."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise ValueError("must be s3+https://KEY:SECRET@HOST/BUCKET or s3+http://…")
    if not parts.username or not parts.password:
        raise ValueError("must name an access key and its secret: s3+https://KEY:SECRET@HOST/…")
    bucket, _, prefix = parts.path.strip("/").partition("/")
    if not BUCKET.match(bucket):
        raise ValueError(f"{bucket!r} is no name of a bucket")
    if not PREFIX.match(prefix):
        raise ValueError(f"the prefix {prefix!r} may have letters, digits and . _ / - only")
    query = dict(parse_qsl(parts.query))
    if unknown := sorted(query.keys() - {"region"}):
        raise ValueError(f"{unknown[0]!r} is unknown there; only region is known")
    host = parts.netloc.rpartition("@")[2]
    return Address(
        origin=f"{parts.scheme.removeprefix('s3+')}://{host}",
        host=host,
        bucket=bucket,
        prefix=f"{prefix}/" if prefix else "",
        access_key=unquote(parts.username),
        secret_key=unquote(parts.password),
        region=query.get("region", USUAL_REGION),
    )
