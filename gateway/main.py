"""Runs the gateway: granian, with one process per `gateways`.

`python -m gateway.main` ends with 2 when the settings are wrong or the port is taken.
"""

from __future__ import annotations

import os
import socket
import sys
from functools import partial
from typing import TYPE_CHECKING

from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops, RuntimeModes
from granian.http import HTTP1Settings
from granian.log import LogLevels

from shared import heap, settings
from shared.lifeline import die_with_parent
from shared.settings import Settings, SettingsError

if TYPE_CHECKING:
    from litestar import Litestar

MOST_CONNECTIONS = 4096
"""Connections one process serves at once; more wait in the kernel."""
AFTER_DRAIN = 5
"""Seconds a process may take to end once its replies have ended."""
LARGEST_HEADERS = 64 * 1024


def load_app(parent: int) -> Litestar:
    """In a gateway process: dies with its parent, then builds the app."""
    die_with_parent(parent)
    from gateway.app import create_app

    app = create_app()
    heap.settle()
    return app


def serve(chosen: Settings) -> None:
    Granian(
        "gateway.app:create_app",
        address=chosen.host,
        port=chosen.port,
        interface=Interfaces.ASGI,
        workers=chosen.gateways,
        loop=Loops.uvloop,
        runtime_mode=RuntimeModes.mt,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(max_buffer_size=LARGEST_HEADERS + 64 * 1024),
        websockets=False,
        backlog=MOST_CONNECTIONS,
        backpressure=MOST_CONNECTIONS,
        log_level=LogLevels.warning,
        respawn_failed_workers=True,
        respawn_interval=0.5,
        workers_kill_timeout=int(chosen.drain_timeout) + AFTER_DRAIN,
    ).serve(target_loader=partial(load_app, os.getpid()), wrap_loader=False)


def refuse_taken_port(host: str, port: int) -> None:
    """The server shares its port between processes, so a second hub would not fail by itself."""
    try:
        address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError) as error:
        raise SettingsError(f"host, or AIHUB_HOST: {host!r} cannot be resolved: {error}") from error
    with socket.socket(address[0], socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address[4])
        except OSError as error:
            raise SettingsError(
                f"port, or AIHUB_PORT: cannot listen on {host} port {port}: {error.strerror}."
                " Stop what listens there, or choose another port."
            ) from error


def main() -> None:
    try:
        chosen = settings.load()
        refuse_taken_port(chosen.host, chosen.port)
    except SettingsError as error:
        print(f"aihub gateway: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    serve(chosen)


if __name__ == "__main__":
    main()
