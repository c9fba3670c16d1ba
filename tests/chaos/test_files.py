"""Files land whole or not at all, whoever is killed while they arrive."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator

import openai
import psycopg
import pytest
from openai import OpenAI

from shared.settings import Settings
from shared.store.blob import LEASE
from tests.file_project import MIB, send_half
from tests.hub import Hub, running_hub

Note = Callable[[str], None]
KILLS = 4
WITHIN = 60.0


@pytest.fixture(scope="module")
def shelf() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


def on_disk(hub: Hub) -> set[str]:
    return {path.name for path in (hub.home / "files").iterdir()}


def booked(hub: Hub) -> dict[str, bool]:
    """Each blob that has a row, and whether it belongs to a file or an upload."""
    sockets = Settings(home=str(hub.home)).sockets
    with psycopg.connect(f"postgresql://aihub@/aihub?host={sockets}") as connection:
        query = "SELECT id, file_id IS NOT NULL OR upload_id IS NOT NULL FROM blob"
        return dict(connection.execute(query).fetchall())


def wait(condition: Callable[[], object]) -> float:
    """Seconds until it holds."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < WITHIN
        time.sleep(0.02)
    return time.monotonic() - began


def kill_gateway(hub: Hub) -> None:
    for pid in hub.pids("gateway"):
        hub.kill_pid(pid)


def tidy(hub: Hub) -> bool:
    """Every blob has its row and is somebody's, as far as the database answers already."""
    try:
        rows = booked(hub)
    except psycopg.OperationalError:
        return False
    return all(rows.values()) and on_disk(hub) == set(rows)


def test_a_gateway_killed_in_the_middle_of_a_file(shelf: Hub, note: Note) -> None:
    sending = send_half(shelf, shelf.key, 16 * MIB)
    wait(lambda: booked(shelf) and on_disk(shelf))
    (name,) = booked(shelf)
    assert on_disk(shelf) == {f"{name}.draft"}
    began = time.monotonic()
    kill_gateway(shelf)
    sending.close()
    shelf.wait_ready()
    assert on_disk(shelf) == {f"{name}.draft"}
    assert shelf.get("/v1/files")[1]["data"] == []
    wait(lambda: not booked(shelf))
    assert on_disk(shelf) == set()
    assert (shelf.home / "files").stat().st_mode & 0o077 == 0
    note(f"half a file was swept {time.monotonic() - began:.1f} s after the kill, lease {LEASE} s")


class Sender(threading.Thread):
    """Sends files, one after the other, and notes which were acknowledged."""

    def __init__(self, hub: Hub) -> None:
        super().__init__()
        self._hub = hub
        self._random = random.Random(7)
        self.enough = threading.Event()
        self.sent: dict[str, str] = {}
        """Digest of each file's content by its name."""
        self.acknowledged: dict[str, str] = {}
        """Name of each file by its id."""

    def run(self) -> None:
        with OpenAI(base_url=self._hub.base_url, api_key=self._hub.key, max_retries=0) as client:
            while not self.enough.is_set():
                name = f"{len(self.sent)}.bin"
                content = os.urandom(self._random.randrange(1, 2 * MIB))
                self.sent[name] = hashlib.sha256(content).hexdigest()
                try:
                    made = client.files.create(file=(name, content), purpose="user_data")
                except (openai.APIConnectionError, openai.APIStatusError):
                    # The hub is being killed; whether this file is there is for the test to see.
                    self.enough.wait(0.05)
                    continue
                self.acknowledged[made.id] = name


def test_kills_at_any_moment(shelf: Hub, note: Note) -> None:
    chance = random.Random(11)
    senders = [Sender(shelf) for _ in range(2)]
    for sender in senders:
        sender.start()
    try:
        for number in range(KILLS + 1):
            known = sum(len(sender.acknowledged) for sender in senders)
            wait(lambda: sum(len(one.acknowledged) for one in senders) > known + 5)  # noqa: B023
            time.sleep(chance.random() * 0.1)
            if number == KILLS:
                shelf.kill("postgres")
            else:
                kill_gateway(shelf)
            shelf.wait_ready()
    finally:
        for sender in senders:
            sender.enough.set()
        for sender in senders:
            sender.join(WITHIN)
    swept = wait(lambda: tidy(shelf))
    with OpenAI(base_url=shelf.base_url, api_key=shelf.key) as client:
        listed = {file.id: file for file in client.files.list()}
        contents = {
            id_: hashlib.sha256(client.files.content(id_).read()).hexdigest() for id_ in listed
        }
    expected = {id_: sender for sender in senders for id_ in sender.acknowledged}
    assert expected.keys() <= listed.keys()
    for id_, sender in expected.items():
        assert contents[id_] == sender.sent[sender.acknowledged[id_]]
    everything = {digest for sender in senders for digest in sender.sent.values()}
    assert set(contents.values()) <= everything
    sent = sum(len(sender.sent) for sender in senders)
    note(
        f"{KILLS} gateways and a database killed: {sent} sent, {len(expected)} acknowledged,"
        f" {len(listed)} there and whole, books and disk equal after {swept:.1f} s"
    )
