"""One gateway process on the databases of the tests, with nothing behind it."""

from __future__ import annotations

import asyncio
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.service import Service
from shared import db
from shared.settings import Settings
from shared.store import api_key
from tests.hub import free_port
from tests.server import running

KEY = "sk-aihub-test-bootstrap-key"


def live(url: str) -> str | None:
    try:
        with urllib.request.urlopen(f"{url}/health/live", timeout=2):
            return None
    except (OSError, urllib.error.HTTPError) as error:
        return str(error)


async def ensure_key(settings: Settings) -> None:
    async with db.connect(settings.postgres) as pool:
        await api_key.ensure_bootstrap(pool, KEY)


@contextmanager
def running_gateway(settings: Settings, toml: str) -> Iterator[str]:
    """Its base_url; KEY is the bootstrap key."""
    asyncio.run(ensure_key(settings))
    home = Path(settings.home)
    home.mkdir(exist_ok=True)
    (home / "aihub.toml").write_text(toml)
    port = free_port()
    environ = {
        "AIHUB_HOME": str(home),
        "AIHUB_PORT": str(port),
        "AIHUB_DATABASE_URL": settings.postgres,
        "AIHUB_REDIS_URL": settings.redis,
    }
    url = f"http://127.0.0.1:{port}"
    argv = [sys.executable, "-m", "gateway.main"]
    with running(Service("gateway", argv, environ, missing=lambda: live(url)), home):
        yield f"{url}/v1"
