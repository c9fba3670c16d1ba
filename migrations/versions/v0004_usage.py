"""Usage: one row a request in monthly partitions, and their sums by the hour"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Nothing here refers to keys, projects or models: what was used stays when they go.
EVENT = """
CREATE TABLE usage_event (
    ts timestamptz NOT NULL,
    request_id text NOT NULL,
    project text NOT NULL,
    key text NOT NULL,
    model text NOT NULL,
    adapter text,
    endpoint text NOT NULL,
    class text NOT NULL,
    tokens_in bigint NOT NULL CHECK (tokens_in >= 0),
    tokens_cached bigint NOT NULL CHECK (tokens_cached >= 0),
    tokens_out bigint NOT NULL CHECK (tokens_out >= 0),
    queue_ms bigint,
    load_ms bigint,
    first_ms bigint,
    total_ms bigint NOT NULL,
    gpu_ms bigint NOT NULL CHECK (gpu_ms >= 0),
    millijoules bigint,
    micros bigint NOT NULL CHECK (micros >= 0),
    status smallint NOT NULL,
    code text,
    cache text NOT NULL CHECK (cache IN ('none', 'exact', 'semantic')),
    streamed boolean NOT NULL,
    PRIMARY KEY (ts, request_id)
) PARTITION BY RANGE (ts);
CREATE TABLE usage_event_default PARTITION OF usage_event DEFAULT;
CREATE INDEX usage_event_request ON usage_event (request_id);
"""
HOURLY = """
CREATE TABLE usage_hourly (
    hour timestamptz NOT NULL,
    project text NOT NULL,
    key text NOT NULL,
    model text NOT NULL,
    endpoint text NOT NULL,
    requests bigint NOT NULL DEFAULT 0,
    failures bigint NOT NULL DEFAULT 0,
    exact_hits bigint NOT NULL DEFAULT 0,
    semantic_hits bigint NOT NULL DEFAULT 0,
    tokens_in bigint NOT NULL DEFAULT 0,
    tokens_cached bigint NOT NULL DEFAULT 0,
    tokens_out bigint NOT NULL DEFAULT 0,
    queue_ms bigint NOT NULL DEFAULT 0,
    load_ms bigint NOT NULL DEFAULT 0,
    first_ms bigint NOT NULL DEFAULT 0,
    total_ms bigint NOT NULL DEFAULT 0,
    gpu_ms bigint NOT NULL DEFAULT 0,
    millijoules bigint NOT NULL DEFAULT 0,
    micros bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (hour, project, key, model, endpoint)
);
CREATE INDEX usage_hourly_key ON usage_hourly (key, hour DESC);
"""


def upgrade() -> None:
    op.execute(EVENT)
    op.execute(HOURLY)


def downgrade() -> None:
    op.execute("DROP TABLE usage_hourly; DROP TABLE usage_event")
