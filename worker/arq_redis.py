"""The settings of arq's own connections."""

from __future__ import annotations

from arq.connections import RedisSettings
from redis.asyncio.connection import parse_url


def arq_settings(url: str) -> RedisSettings:
    """The URL as redis-py reads it: arq's own reading leaves percent signs in passwords."""
    parts = parse_url(url)
    return RedisSettings(
        host=parts.get("host", "localhost"),
        port=int(parts.get("port", 6379)),
        unix_socket_path=parts.get("path"),
        database=int(parts.get("db", 0)),
        username=parts.get("username"),
        password=parts.get("password"),
        ssl=url.startswith("rediss://"),
    )
