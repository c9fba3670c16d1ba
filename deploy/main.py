"""The `aihub` command. Each command is a file of its own, imported when it is asked for."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from deploy.model_options import add_models
from deploy.options import add_accounts, add_usage
from deploy.train_options import add_train

if TYPE_CHECKING:
    from shared.settings import Settings

COMMANDS = {
    "up": "start everything on this machine: databases, worker, gateway",
    "gateway": "start a gateway alone, on databases that run",
    "worker": "start this machine's worker alone, on databases that run",
    "trainer": "start a trainer alone, on databases that run",
    "migrate": "bring the database to this version and put the bootstrap key into it",
    "models": "list the models; see, load, unload and pin them; estimate what they take",
    "explain": "what was loaded, evicted or refused, and why; NUMBER makes one decision again",
    "config": "print the settings in force, where each comes from, secrets redacted",
    "doctor": "say what works on this machine, what is missing, and its mend",
    "keys": "API keys of the running hub: list, create, rotate, revoke",
    "projects": "its projects: list, create, limit, archive",
    "budgets": "what keys and projects may use up: list, set, remove",
    "usage": "what was used: report, receipt of a request, months that are kept, drop one",
    "files": "files of a project: list, upload, delete, content",
    "cache": "kept answers of the running hub: how many there are, purge",
    "train": "fine-tune a model: create jobs, follow, pause and cancel them",
    "chat": "talk to a model in the terminal",
    "version": "print the version",
}
MODULES = {
    "up": "deploy.up",
    "migrate": "deploy.bootstrap",
    "models": "deploy.models",
    "explain": "deploy.explain",
    "config": "deploy.config",
    "doctor": "deploy.doctor",
    "chat": "deploy.chat",
    "keys": "deploy.keys",
    "projects": "deploy.projects",
    "budgets": "deploy.budgets",
    "train": "deploy.train",
    "cache": "deploy.cache",
    "files": "deploy.files",
    "usage": "deploy.usage",
}
PROCESSES = {"gateway": "gateway.main", "worker": "worker.main", "trainer": "trainer.main"}


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aihub", description="AI Backend Hub")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    parsers = {
        name: commands.add_parser(name, help=text, description=text)
        for name, text in COMMANDS.items()
    }
    add_models(parsers["models"])
    parsers["worker"].add_argument("--device", help="which of the devices that the settings list")
    explain = parsers["explain"]
    explain.add_argument("number", type=int, nargs="?", help="one decision, with its inputs")
    explain.add_argument("--model", help="only what was about this model")
    explain.add_argument("--lane", help="only decisions of this lane's workers")
    explain.add_argument("--last", type=int, default=20, help="how many (default: 20)")
    explain.add_argument("--admissions", action="store_true", help="admitted requests, too")
    add_accounts(parsers)
    add_train(parsers["train"])
    add_usage(parsers["usage"])
    chat = parsers["chat"]
    chat.add_argument("--base-url", help="an OpenAI-compatible server (default: this hub)")
    chat.add_argument("--key", help="its API key (default, for this hub only: ours)")
    chat.add_argument("--model", help="the model's name (default: the server's first chat model)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status: 2 for wrong settings."""
    options = arguments().parse_args(argv)
    if options.command == "version":
        from importlib.metadata import version

        print(version("ai-backend-hub"))
        return 0
    from shared.settings import SettingsError, load

    try:
        status = run(options, load())
        sys.stdout.flush()
        return status
    except SettingsError as error:
        print(f"aihub: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has enough; the interpreter's last flush must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def run(options: argparse.Namespace, settings: Settings) -> int:
    if options.command in PROCESSES:
        named = getattr(options, "device", None)
        more = () if named is None else ("--device", named)
        os.execv(sys.executable, python(PROCESSES[options.command], *more))
    command = import_module(MODULES[options.command])
    return int(command.main(settings, options))


def python(module: str, *arguments: str) -> list[str]:
    """How one of our modules runs as a process; files in the current folder cannot shadow it."""
    return [sys.executable, "-P", "-m", module, *arguments]


if __name__ == "__main__":
    sys.exit(main())
