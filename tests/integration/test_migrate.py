from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.config import Config

from deploy import migrate
from shared.settings import Settings
from shared.store import cluster

ROOT = Path(__file__).resolve().parents[2]
RUN = "import shared.settings, deploy.migrate; deploy.migrate.run(shared.settings.load())"
WITHIN = 60
TABLES = {
    *("alembic_version", "api_key", "app_user", "audit", "budget", "footprint", "membership"),
    *("blob", "file", "upload"),
    *("shortfall", "model_price", "organisation", "project", "usage_event", "usage_event_default"),
    *("usage_hourly", "semantic_answer", "semantic_neighbour", "semantic_trial"),
    *("fine_tuning_job", "fine_tuning_event", "fine_tuning_checkpoint", "fine_tuning_metric"),
    *("tuned_model", "model_alias", "model_export", "training_run", "checkpoint_permission"),
}


def alembic(settings: Settings) -> Config:
    config = Config(ROOT / "alembic.ini")
    config.attributes["settings"] = settings
    return config


def own(url: str) -> Settings:
    return Settings(database_url=url)


def tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {row[0] for row in rows}


def admit_vector(settings: Settings, url: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    with psycopg.connect(cluster.superuser(settings, str(name)), autocommit=True) as connection:
        cluster.ensure_vector(connection)


@pytest.fixture
def url(postgres: Settings, empty_database_url: str) -> str:
    """An empty database in which an administrator has created the extension."""
    admit_vector(postgres, empty_database_url)
    return empty_database_url


def test_up_down_up(url: str) -> None:
    config = alembic(own(url))
    command.upgrade(config, "head")
    assert tables(url) == TABLES
    command.downgrade(config, "base")
    assert tables(url) == {"alembic_version"}
    migrate.run(own(url))
    assert tables(url) == TABLES
    migrate.run(own(url))


def test_the_command_line_of_alembic_works(url: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        cwd=ROOT,
        env={**os.environ, "AIHUB_DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=WITHIN,
    )
    assert ended.returncode == 0, ended.stderr
    assert "api_key" in tables(url)


def test_sql_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    command.upgrade(alembic(Settings()), "head", sql=True)
    printed = capsys.readouterr().out
    assert "CREATE EXTENSION IF NOT EXISTS vector" in printed
    assert "CREATE TABLE api_key" in printed


def test_ten_at_once_on_one_database(url: str) -> None:
    at_once({"AIHUB_DATABASE_URL": url})
    assert "api_key" in tables(url)


def test_ten_at_once_on_a_new_embedded_server(postgres: Settings) -> None:
    """The session's database is dropped and made again: role, database, extension, tables."""
    with psycopg.connect(cluster.superuser(postgres), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS aihub WITH (FORCE)")
    at_once({"AIHUB_HOME": postgres.home})
    assert "api_key" in tables(postgres.postgres)


def at_once(env: dict[str, str], number: int = 10) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", RUN],
            cwd=ROOT,
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(number)
    ]
    ended = [(process.communicate(timeout=WITHIN)[0], process.returncode) for process in started]
    assert [status for _, status in ended] == [0] * number, ended


def test_a_killed_migration_frees_the_lock(url: str) -> None:
    """The first process has the lock and waits for a table; the second runs when it is dead."""
    migrate.run(own(url))
    with psycopg.connect(url) as holder:
        holder.execute("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")
        stuck = subprocess.Popen(
            [sys.executable, "-c", RUN], cwd=ROOT, env={**os.environ, "AIHUB_DATABASE_URL": url}
        )
        with psycopg.connect(url, autocommit=True) as observer:
            while not observer.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
                assert stuck.poll() is None
        stuck.send_signal(signal.SIGKILL)
        stuck.wait(WITHIN)
    migrate.run(own(url))


def test_a_role_that_may_not_create_the_extension_is_told_so(empty_database_url: str) -> None:
    with pytest.raises(migrate.MigrationError, match=r"CREATE EXTENSION vector; then try again"):
        migrate.run(own(empty_database_url))
    assert tables(empty_database_url) <= {"alembic_version"}


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(migrate.MigrationError, match="cannot be reached"):
        migrate.run(Settings(database_url=f"postgresql://aihub@/aihub?host={tmp_path}"))


def test_a_database_that_is_not_there_is_not_created(postgres: Settings) -> None:
    url = f"postgresql://aihub@/nowhere?host={postgres.sockets}"
    with pytest.raises(migrate.MigrationError, match='database "nowhere" does not exist'):
        migrate.run(own(url))


def test_keys_there_were_belong_to_the_default_project(url: str) -> None:
    config = alembic(own(url))
    command.upgrade(config, "0002")
    insert = "INSERT INTO api_key (id, name, prefix, digest, scopes, bootstrap) VALUES"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"{insert} ('k', 'n', 'p', sha256('a'), '{{admin,inference}}', true)")
        command.upgrade(config, "head")
        row = connection.execute("SELECT id, project_id, models FROM api_key").fetchone()
        assert row == ("k", "proj_default", [])
        command.downgrade(config, "0002")
        assert connection.execute("SELECT id, scopes FROM api_key").fetchone() == (
            "k",
            ["admin", "inference"],
        )


def test_usage_outlives_keys_and_projects_and_goes_by_the_month(url: str) -> None:
    migrate.run(own(url))
    insert = (
        "INSERT INTO usage_event (ts, request_id, project, key, model, endpoint, class, tokens_in,"
        " tokens_cached, tokens_out, total_ms, gpu_ms, micros, status, cache, streamed)"
        " VALUES (%s, 'req_1', 'gone', 'gone', 'gone', 'chat', 'batch', 1, 0, 1, 1, 0, 1, 200,"
        " 'none', false)"
    )
    month = (
        "CREATE TABLE usage_event_2026_11 PARTITION OF usage_event"
        " FOR VALUES FROM ('2026-11-01Z') TO ('2026-12-01Z')"
    )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(month)
        connection.execute(insert, ("2026-11-23T00:00Z",))
        connection.execute(insert, ("2027-01-01T00:00Z",))
        places = "SELECT tableoid::regclass::text FROM usage_event ORDER BY ts"
        found = [row[0] for row in connection.execute(places)]
        assert found == ["usage_event_2026_11", "usage_event_default"]
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute(insert, ("2026-11-23T00:00Z",))
