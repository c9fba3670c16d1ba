"""`aihub chat`: a conversation in the terminal with any OpenAI-compatible server.

Each line is a turn. /reset forgets the conversation, /model NAME changes the model (alone: lists
them), /exit or the end of the input leaves. Ctrl-C stops the answer, or the program at the prompt.
"""

from __future__ import annotations

import argparse
import sys
from io import TextIOWrapper
from typing import TextIO

from deploy import key, welcome
from deploy.stream import ApiError, Client
from shared.settings import Settings

PROMPT = "> "
NOT_UTF8 = "the input is not UTF-8 text"
HELP = "commands: /model [NAME], /reset, /exit"


class Conversation:
    """Holds every message said so far; the server bounds it by its context."""

    def __init__(self, client: Client, model: str, out: TextIO) -> None:
        self._client = client
        self._out = out
        self.model = model
        self.messages: list[dict[str, str]] = []

    def turn(self, text: str) -> bool:
        """Say one line and print the answer; False when the server refused or broke off.

        A turn that failed before any text is forgotten; a cut answer is kept as far as it came.
        """
        self.messages.append({"role": "user", "content": text})
        answer: list[str] = []
        stream = self._client.chat(self.model, self.messages)
        fault = None
        try:
            for piece in stream:
                answer.append(piece)
                self._write(piece)
        except KeyboardInterrupt:
            self._write(" (stopped)")
        except ApiError as error:
            fault = error
        finally:
            stream.close()
        self._write("\n")
        if answer:
            self.messages.append({"role": "assistant", "content": "".join(answer)})
        else:
            self.messages.pop()
        if fault is not None:
            print(f"error: {fault}", file=sys.stderr)
        return fault is None

    def command(self, text: str) -> bool:
        """Obey a line that begins with a slash; False for one that is unknown or failed."""
        name, _, argument = text.partition(" ")
        if name == "/reset":
            self.messages.clear()
        elif name == "/model" and argument.strip():
            self.model = argument.strip()
        elif name == "/model":
            self._write("".join(f"{model}\n" for model in self._client.models()))
        else:
            print(f"{name} is unknown; {HELP}", file=sys.stderr)
            return False
        return True

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def main(settings: Settings, options: argparse.Namespace) -> int:
    """Exit status 1 when the server cannot be used, or a piped turn failed."""
    ours = options.base_url is None
    secret = options.key
    if secret is None and ours and (found := key.find(settings)) is not None:
        secret = found.value
    try:
        client = Client(options.base_url or welcome.base_url(settings), secret)
        model = options.model or first_model(client, settings if ours else None)
    except ApiError as error:
        hint = " Is `aihub up` running?" if ours else ""
        print(f"aihub chat: {error}.{hint}", file=sys.stderr)
        return 1
    conversation = Conversation(client, model, sys.stdout)
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="strict")
    if sys.stdin.isatty():
        print(f"{model} at {client.base_url}; {HELP}")
        return converse(conversation)
    return recite(conversation, sys.stdin)


def first_model(client: Client, settings: Settings | None) -> str:
    """Ours: the first chat model of the settings; elsewhere: the first the server lists."""
    listed = client.models()
    chats = [] if settings is None else [n for n, m in settings.models.items() if m.kind == "chat"]
    for name in (*(name for name in chats if name in listed), *listed):
        return name
    raise ApiError(f"{client.base_url} lists no models")


def converse(conversation: Conversation) -> int:
    import readline  # noqa: F401  (line editing and history for input)

    while True:
        try:
            text = input(PROMPT).strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return 0
        except UnicodeDecodeError:
            print(f"error: {NOT_UTF8}", file=sys.stderr)
            continue
        if text == "/exit":
            return 0
        if text:
            say(conversation, text)


def recite(conversation: Conversation, lines: TextIO) -> int:
    """Take the turns from a pipe."""
    good = True
    try:
        for line in lines:
            text = line.strip()
            if text == "/exit":
                break
            if text:
                good = say(conversation, text) and good
    except UnicodeDecodeError as error:
        print(f"error: {NOT_UTF8}: {error.reason}", file=sys.stderr)
        return 1
    return 0 if good else 1


def say(conversation: Conversation, text: str) -> bool:
    try:
        return conversation.command(text) if text.startswith("/") else conversation.turn(text)
    except ApiError as error:
        print(f"error: {error}", file=sys.stderr)
        return False
