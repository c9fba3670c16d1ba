"""Usage by the hour knows adapter and class; months are made, and dropped, by a function each"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

WIDER = """
ALTER TABLE usage_hourly
    ADD COLUMN adapter text NOT NULL DEFAULT '',
    ADD COLUMN class text NOT NULL DEFAULT 'interactive',
    DROP CONSTRAINT usage_hourly_pkey,
    ADD PRIMARY KEY (hour, project, key, model, adapter, endpoint, class);
"""
# What lies in the default partition is moved before the month is attached: that would fail else.
MAKE = """
CREATE FUNCTION usage_month_make(month date) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    partition text := 'usage_event_' || to_char(month, 'YYYY_MM');
    since timestamptz := date_trunc('month', month::timestamp) AT TIME ZONE 'UTC';
    until timestamptz := (date_trunc('month', month::timestamp) + interval '1 month')
        AT TIME ZONE 'UTC';
BEGIN
    IF to_regclass(partition) IS NOT NULL THEN
        RETURN false;
    END IF;
    LOCK TABLE ONLY usage_event IN SHARE UPDATE EXCLUSIVE MODE;
    LOCK TABLE usage_event_default IN ACCESS EXCLUSIVE MODE;
    EXECUTE format('CREATE TABLE %I (LIKE usage_event INCLUDING ALL)', partition);
    EXECUTE format(
        'WITH moved AS (DELETE FROM usage_event_default WHERE ts >= %L AND ts < %L RETURNING *)'
        ' INSERT INTO %I SELECT * FROM moved', since, until, partition
    );
    EXECUTE format(
        'ALTER TABLE usage_event ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        partition, since, until
    );
    RETURN true;
END
$$;
"""
DROP = """
CREATE FUNCTION usage_month_drop(month date) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    partition text := 'usage_event_' || to_char(month, 'YYYY_MM');
    freed bigint;
BEGIN
    IF to_regclass(partition) IS NULL THEN
        RETURN NULL;
    END IF;
    freed := pg_total_relation_size(to_regclass(partition));
    EXECUTE format('DROP TABLE %I', partition);
    RETURN freed;
END
$$;
"""


def upgrade() -> None:
    op.execute(WIDER)
    op.execute(MAKE)
    op.execute(DROP)


# What differs in adapter or class only becomes one row.
NARROWER = """
CREATE TEMP TABLE narrow (
    hour, project, key, model, endpoint,
    requests, failures, exact_hits, semantic_hits, tokens_in, tokens_cached, tokens_out,
    queue_ms, load_ms, first_ms, total_ms, gpu_ms, millijoules, micros
) ON COMMIT DROP AS
SELECT hour, project, key, model, endpoint,
       sum(requests), sum(failures), sum(exact_hits), sum(semantic_hits), sum(tokens_in),
       sum(tokens_cached), sum(tokens_out), sum(queue_ms), sum(load_ms), sum(first_ms),
       sum(total_ms), sum(gpu_ms), sum(millijoules), sum(micros)
FROM usage_hourly GROUP BY hour, project, key, model, endpoint;
TRUNCATE usage_hourly;
ALTER TABLE usage_hourly
    DROP CONSTRAINT usage_hourly_pkey,
    DROP COLUMN adapter,
    DROP COLUMN class,
    ADD PRIMARY KEY (hour, project, key, model, endpoint);
INSERT INTO usage_hourly SELECT * FROM narrow;
"""


def downgrade() -> None:
    op.execute("DROP FUNCTION usage_month_drop; DROP FUNCTION usage_month_make")
    op.execute(NARROWER)
