"""`aihub up`: one supervisor that starts, in order, all that the hub is made of."""

from __future__ import annotations

import argparse
import http.client
import signal
import sys
from contextlib import suppress
from functools import partial

import msgspec

from deploy import claim, heartbeat, key, welcome
from deploy.console import Console
from deploy.embedded import folder, layout, postgres, valkey
from deploy.embedded.folder import EmbeddedError
from deploy.main import python
from deploy.service import Service
from deploy.supervisor import Interrupted, StartFailed, Supervisor
from shared.catalog import Catalog
from shared.settings import PREFIX, Settings, SettingsError

DRAIN = 1.0
"""Seconds open replies get when a person stops everything; longer would miss the 5 s bound."""
PROBE_TIMEOUT = 2.0


def main(settings: Settings, options: argparse.Namespace) -> int:
    console = Console()
    try:
        Catalog(settings.models).served(settings.lane)
        folder.own(settings.folder)
        lock = claim.HomeLock(settings.folder)
        settings = msgspec.structs.replace(settings, port=claim.port(settings))
        claim.servers(settings)
    except (claim.Refused, OSError) as error:
        print(f"aihub up: {error}", file=sys.stderr)
        return 1
    supervisor = Supervisor(settings.folder / "log", console)
    try:
        bring_up(settings, supervisor, console)
        supervisor.watch()
        status = 0
    except Interrupted:
        status = 130
    except StartFailed as error:
        console.write(failure(error))
        status = 1
    except (EmbeddedError, SettingsError) as error:
        console.write(f"\naihub up: {error}\n\n")
        status = 1
    finally:
        console.line("hub", "stopping")
        supervisor.stop()
        sweep(settings)
        console.line("hub", "stopped")
        lock.release()
    return status


def sweep(settings: Settings) -> None:
    """Leave no link and no empty folder where the sockets were."""
    folders = [settings.sockets]
    if settings.database_url is None:
        with suppress(EmbeddedError):
            found = layout.find(settings)
            postgres.unlink_socket(found)
            folders.append(found.run)
    folder.remove_empty(*folders)


def failure(error: StartFailed) -> str:
    tail = "".join(f"    {line}\n" for line in error.tail)
    return f"\naihub up: {error}. The end of {error.path}:\n{tail}\n"


def bring_up(settings: Settings, supervisor: Supervisor, console: Console) -> None:
    """Models are fetched while the databases start; the worker loads while tables are made."""
    env = environment(settings)
    admin = key.obtain(settings)
    models = supervisor.step("models", python("deploy.main", "models", "--fetch"), env)
    databases = embedded(settings, supervisor, console)
    supervisor.start(*databases)
    supervisor.until_ready()
    if settings.redis_url is None:
        valkey.drop_functions(settings)
    migrate = supervisor.step("migrate", python("deploy.main", "migrate"), env)
    supervisor.until_done(models)
    supervisor.start(*workers(settings, env))
    supervisor.until_done(migrate)
    supervisor.start(gateway(settings, env), *trainers(settings, env))
    supervisor.until_ready()
    console.line("hub", "answers")
    console.write("\n" + welcome.compose(settings, admin) + "\n")


def environment(settings: Settings) -> dict[str, str]:
    """What the children are told beyond our own environment and file."""
    return {f"{PREFIX}PORT": str(settings.port)}


def embedded(settings: Settings, supervisor: Supervisor, console: Console) -> list[Service]:
    """The databases that no URL of the settings replaces, ready to start.

    Each holds the lock on its folder until this process ends.
    """
    services = []
    servers = (
        (settings.database_url, "postgres", postgres),
        (settings.redis_url, "valkey", valkey),
    )
    for url, name, server in servers:
        if url is None:
            with supervisor.interruptible():
                server.prepare(settings, lambda text, name=name: console.line(name, text))
            services.append(server.service(settings))
    return services


def workers(settings: Settings, env: dict[str, str]) -> list[Service]:
    """One for each device. They have no door of their own: a heartbeat says what is ready."""
    devices = settings.devices
    return [
        Service(
            "worker" if len(devices) == 1 else f"worker-{device.replace(':', '-')}",
            python("worker.main", "--device", device),
            env,
            missing=partial(heartbeat.missing, settings, device),
            orphaned=signal.SIGKILL,
            within=120.0,
        )
        for device in devices
    ]


def trainers(settings: Settings, env: dict[str, str]) -> list[Service]:
    """One where the settings name what it trains with. Nobody waits for it."""
    if settings.train_python is None:
        return []
    return [
        Service(
            "trainer",
            python("trainer.main"),
            env,
            missing=lambda: None,
            orphaned=signal.SIGKILL,
        )
    ]


def gateway(settings: Settings, env: dict[str, str]) -> Service:
    return Service(
        "gateway",
        python("gateway.main"),
        env,
        missing=lambda: readiness(settings),
        orphaned=signal.SIGKILL,
        hurry=DRAIN,
        within=120.0,
    )


def readiness(settings: Settings) -> str | None:
    """What the hub still lacks, in its own words; None when it answers requests."""
    host, _, port = welcome.address(settings).rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=PROBE_TIMEOUT)
    try:
        connection.request("GET", "/health/ready")
        reply = connection.getresponse()
        body = reply.read(65536)
    except (OSError, http.client.HTTPException) as error:
        return f"/health/ready does not answer ({error})"
    finally:
        connection.close()
    return None if reply.status == 200 else f"/health/ready says {body.decode('utf-8', 'replace')}"
