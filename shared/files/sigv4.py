"""AWS Signature Version 4 of a request to S3, as the protocol's specification has it. Pure."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import quote

from shared.files.address import Address

EMPTY = hashlib.sha256(b"").hexdigest()
ALGORITHM = "AWS4-HMAC-SHA256"


def sign(
    address: Address,
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    digest: str,
    at: datetime,
) -> dict[str, str]:
    """All headers of the request. `headers` are those it has beside the ones for signing, in lower
    case; `digest` is the SHA-256 of its body in hex, `at` the time in UTC."""
    stamp = f"{at:%Y%m%dT%H%M%SZ}"
    signed = {
        **headers,
        "host": address.host,
        "x-amz-content-sha256": digest,
        "x-amz-date": stamp,
    }
    names = ";".join(sorted(signed))
    lines = [f"{name}:{signed[name].strip()}\n" for name in sorted(signed)]
    request = "\n".join((method, encoded(path), spelt(query), "".join(lines), names, digest))
    scope = f"{stamp[:8]}/{address.region}/s3/aws4_request"
    text = "\n".join((ALGORITHM, stamp, scope, hashlib.sha256(request.encode()).hexdigest()))
    signature = hmac.new(key(address, scope), text.encode(), hashlib.sha256).hexdigest()
    credential = f"Credential={address.access_key}/{scope}"
    signed["authorization"] = (
        f"{ALGORITHM} {credential},SignedHeaders={names},Signature={signature}"
    )
    return signed


def key(address: Address, scope: str) -> bytes:
    made = f"AWS4{address.secret_key}".encode()
    for part in scope.split("/"):
        made = hmac.new(made, part.encode(), hashlib.sha256).digest()
    return made


def encoded(path: str) -> str:
    return quote(path, safe="/-_.~")


def spelt(query: Mapping[str, str]) -> str:
    """In the order that is signed."""
    pairs = ((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in query.items())
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))
