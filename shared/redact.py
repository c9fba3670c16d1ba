"""Settings as they may be printed: keys hidden, passwords cut out of URLs."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

SECRETS = frozenset({"admin_key", "api_key"})
HIDDEN = "[redacted]"
SECRET_PARAMETER = re.compile(r"pass(word|wd|phrase|$)|pwd|secret|token|api_?key", re.IGNORECASE)
"""Query parameters that hold a secret, as libpq's password and sslpassword do."""


def redact(key: str, value: Any) -> Any:
    """The value as it may be printed."""
    if value is None:
        return None
    if key in SECRETS:
        return HIDDEN
    if isinstance(value, dict):
        return {k: redact(k, v) for k, v in value.items()}
    if key.endswith("url"):
        return redact_url(str(value))
    return value


def redact_url(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return HIDDEN
    if parts.password is not None:
        host = parts.netloc.rpartition("@")[2]
        parts = parts._replace(netloc=f"{parts.username or ''}:{HIDDEN}@{host}")
    query = "&".join(map(redact_parameter, parts.query.split("&")))
    if query == parts.query and parts.netloc == urlsplit(url).netloc:
        return url
    return joined(parts._replace(query=query))


def redact_parameter(parameter: str) -> str:
    name, separator, _ = parameter.partition("=")
    secret = separator and SECRET_PARAMETER.search(unquote(name))
    return f"{name}={HIDDEN}" if secret else parameter


def joined(parts: SplitResult) -> str:
    """urlunsplit, which drops the empty host of `postgresql:///name`."""
    text = urlunsplit(parts)
    if not parts.netloc and not text.startswith(f"{parts.scheme}://"):
        return text.replace(f"{parts.scheme}:", f"{parts.scheme}://", 1)
    return text
