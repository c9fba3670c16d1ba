"""Keys: who gets in, how often the database is asked, what is remembered."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from gateway.app import Gateway
from gateway.auth import KNOWN_SECONDS, MOST_KEYS, UNKNOWN_SECONDS, Keyring, Principal, mask
from gateway.exchange import Exchange
from gateway.front import Front, permit
from shared.errors import InvalidApiKey, PermissionDenied, Unavailable
from shared.settings import Settings
from shared.store.api_key import digest
from shared.wire.account import Account

SECRET = "sk-0123456789abcdef0123456789abcdef"
BEARER = f"Bearer {SECRET}".encode()
NOW = datetime.now(UTC)
KEY = Account("key_1", "proj_1", "org_1", "mine", ("inference",))


class ManualClock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> float:
        return self.seconds

    def wall_ms(self) -> int:
        return int(self.seconds * 1000)


class Rows:
    """A table of keys; counts the look-ups, and fails while it is down."""

    def __init__(self, **keys: Account) -> None:
        self.keys = {digest(secret.replace("_", "-")): key for secret, key in keys.items()}
        self.asked = 0
        self.down = False
        self.entered = asyncio.Event()

    async def find(self, fingerprint: bytes) -> Account | None:
        self.asked += 1
        self.entered.set()
        await asyncio.sleep(0)
        if self.down:
            raise psycopg.OperationalError("connection refused")
        return self.keys.get(fingerprint)


@pytest.fixture
def rows() -> Rows:
    return Rows(**{SECRET.replace("-", "_"): KEY})


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def keyring(rows: Rows, clock: ManualClock) -> Keyring:
    return Keyring(rows.find, clock)


async def test_a_known_key_is_looked_up_once_in_its_time(
    keyring: Keyring, rows: Rows, clock: ManualClock
) -> None:
    for _ in range(3):
        assert (await keyring.find(BEARER)).id == "key_1"
    assert rows.asked == 1
    clock.seconds += KNOWN_SECONDS + 0.1
    await keyring.find(BEARER)
    assert rows.asked == 2


async def test_requests_that_come_together_share_one_look_up(keyring: Keyring, rows: Rows) -> None:
    await asyncio.gather(*(keyring.find(BEARER) for _ in range(50)))
    assert rows.asked == 1


@pytest.mark.parametrize(
    "header", [None, b"", b"Bearer", b"Bearer ", b"Basic abc", SECRET.encode(), b"Bearer nope"]
)
async def test_anything_else_is_refused(keyring: Keyring, header: bytes | None) -> None:
    with pytest.raises(InvalidApiKey) as refused:
        await keyring.find(header)
    assert (refused.value.status, refused.value.code) == (401, "invalid_api_key")


async def test_a_key_is_permitted_what_its_scopes_say(keyring: Keyring) -> None:
    owner = await keyring.find(BEARER)
    permit(owner, "inference")
    permit(Principal(Account("key_2", "proj_1", "org_1", "boss", ("admin",))), "admin.read")
    with pytest.raises(PermissionDenied, match="'admin'") as refused:
        permit(owner, "admin")
    assert (refused.value.status, refused.value.code) == (403, "insufficient_permissions")


async def test_the_scheme_may_be_written_in_any_case(keyring: Keyring) -> None:
    assert (await keyring.find(BEARER.replace(b"Bearer", b"bearer"))).id == "key_1"


async def test_an_unknown_key_is_remembered_for_a_second(
    keyring: Keyring, rows: Rows, clock: ManualClock
) -> None:
    for _ in range(3):
        with pytest.raises(InvalidApiKey):
            await keyring.find(b"Bearer nope")
    assert rows.asked == 1
    clock.seconds += UNKNOWN_SECONDS + 0.1
    with pytest.raises(InvalidApiKey):
        await keyring.find(b"Bearer nope")
    assert rows.asked == 2


async def test_a_key_that_expires_while_it_is_remembered_is_refused(clock: ManualClock) -> None:
    past = Account("key_2", "proj_1", "org_1", "old", (), expires_at=NOW - timedelta(seconds=1))
    keyring = Keyring(Rows(**{SECRET.replace("-", "_"): past}).find, clock)
    with pytest.raises(InvalidApiKey):
        await keyring.find(BEARER)


async def test_forget_looks_up_again(keyring: Keyring, rows: Rows) -> None:
    await keyring.find(BEARER)
    rows.keys.clear()
    keyring.forget()
    with pytest.raises(InvalidApiKey):
        await keyring.find(BEARER)


async def test_an_answer_from_before_a_change_is_not_remembered(
    keyring: Keyring, rows: Rows
) -> None:
    asking = asyncio.create_task(keyring.find(BEARER))
    await rows.entered.wait()
    keyring.forget()
    rows.keys.clear()
    await asyncio.gather(asking, return_exceptions=True)
    with pytest.raises(InvalidApiKey):
        await keyring.find(BEARER)
    assert rows.asked == 2


async def test_a_database_that_is_down_fails_only_keys_not_remembered(
    keyring: Keyring, rows: Rows, clock: ManualClock
) -> None:
    await keyring.find(BEARER)
    rows.down = True
    assert (await keyring.find(BEARER)).id == "key_1"
    with pytest.raises(Unavailable) as refused:
        await keyring.find(b"Bearer other")
    assert refused.value.status == 503
    clock.seconds += KNOWN_SECONDS + 0.1
    with pytest.raises(Unavailable):
        await keyring.find(BEARER)
    rows.down = False
    assert (await keyring.find(BEARER)).id == "key_1"


async def test_the_memory_is_bounded(keyring: Keyring, rows: Rows) -> None:
    await keyring.find(BEARER)
    for number in range(MOST_KEYS):
        with pytest.raises(InvalidApiKey):
            await keyring.find(b"Bearer stranger-%d" % number)
    asked = rows.asked
    await keyring.find(BEARER)
    assert rows.asked == asked + 1


def test_a_secret_is_never_shown_whole() -> None:
    assert mask(SECRET) == "sk-012…cdef"
    assert mask("short") == "…"


def test_every_route_says_which_scope_it_needs() -> None:
    async def handle(_: Exchange) -> None:
        raise AssertionError

    gateway = Gateway(Settings())
    front = Front(gateway.keyring, gateway.sessions, gateway.counts, gateway.dispatch.record)
    with pytest.raises(ValueError, match="neither its scope"):
        front.route("bare", ["/bare"], ("GET",), handle)
    assert len(gateway.routes(front)) > 10
