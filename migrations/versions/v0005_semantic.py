"""Answers kept for questions that mean the same, and what checking them found"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

NEIGHBOUR = """
CREATE TABLE semantic_neighbour (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id text NOT NULL REFERENCES project ON DELETE CASCADE,
    scope bytea NOT NULL CHECK (octet_length(scope) = 32),
    question_digest bytea NOT NULL CHECK (octet_length(question_digest) = 32),
    embedding halfvec NOT NULL,
    bytes integer NOT NULL CHECK (bytes >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    UNIQUE (project_id, scope, question_digest)
);
ALTER TABLE semantic_neighbour ALTER COLUMN embedding SET STORAGE PLAIN;
CREATE INDEX semantic_neighbour_age ON semantic_neighbour (project_id, created_at DESC);
CREATE INDEX semantic_neighbour_expiry ON semantic_neighbour (expires_at);
"""
ANSWER = """
CREATE TABLE semantic_answer (
    id bigint PRIMARY KEY REFERENCES semantic_neighbour ON DELETE CASCADE,
    model text NOT NULL,
    question text NOT NULL,
    answer bytea NOT NULL,
    hits bigint NOT NULL DEFAULT 0
);
CREATE INDEX semantic_answer_model ON semantic_answer (model);
"""
TRIAL = """
CREATE TABLE semantic_trial (
    project_id text PRIMARY KEY REFERENCES project ON DELETE CASCADE,
    hits bigint NOT NULL DEFAULT 0,
    checked bigint NOT NULL DEFAULT 0,
    wrong bigint NOT NULL DEFAULT 0,
    since timestamptz NOT NULL DEFAULT now(),
    off_since timestamptz,
    off_reason text,
    CHECK (wrong BETWEEN 0 AND checked),
    CHECK ((off_since IS NULL) = (off_reason IS NULL))
);
"""


def upgrade() -> None:
    for step in (NEIGHBOUR, ANSWER, TRIAL):
        op.execute(step)


def downgrade() -> None:
    for table in ("semantic_trial", "semantic_answer", "semantic_neighbour"):
        op.execute(f"DROP TABLE {table}")
