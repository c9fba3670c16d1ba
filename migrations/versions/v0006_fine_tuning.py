"""Fine-tuning: jobs, their events and checkpoints, the models that come of them, and aliases"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

JOB = """
CREATE TABLE fine_tuning_job (
    id text PRIMARY KEY,
    project_id text NOT NULL REFERENCES project,
    key_id text NOT NULL,
    name text,
    model text NOT NULL,
    method text NOT NULL CHECK (method IN ('supervised', 'dpo')),
    status text NOT NULL CHECK (status IN (
        'validating_files', 'queued', 'running', 'paused', 'succeeded', 'failed', 'cancelled'
    )),
    training_file text NOT NULL,
    validation_file text,
    asked jsonb NOT NULL,
    plan jsonb,
    suffix text,
    seed bigint NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    fence bigint NOT NULL DEFAULT 0,
    owner text,
    lease_until timestamptz,
    starts integer NOT NULL DEFAULT 0,
    step integer NOT NULL DEFAULT 0,
    steps integer,
    fine_tuned_model text,
    trained_tokens bigint,
    metrics jsonb,
    error jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz,
    estimated_finish timestamptz,
    CHECK ((owner IS NULL) = (lease_until IS NULL)),
    CHECK ((status IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
    CHECK (status <> 'failed' OR error IS NOT NULL),
    CHECK (status NOT IN ('queued', 'running') OR plan IS NOT NULL)
);
CREATE INDEX fine_tuning_job_project ON fine_tuning_job (project_id, id);
CREATE INDEX fine_tuning_job_open ON fine_tuning_job (id) WHERE finished_at IS NULL;
CREATE TABLE fine_tuning_event (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id text NOT NULL REFERENCES fine_tuning_job ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    level text NOT NULL CHECK (level IN ('info', 'warn', 'error')),
    type text NOT NULL CHECK (type IN ('message', 'metrics')),
    message text NOT NULL,
    data jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX fine_tuning_event_job ON fine_tuning_event (job_id, number);
CREATE TABLE fine_tuning_checkpoint (
    id text PRIMARY KEY,
    job_id text NOT NULL REFERENCES fine_tuning_job ON DELETE CASCADE,
    step integer NOT NULL CHECK (step >= 0),
    model text NOT NULL,
    metrics jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (job_id, step)
);
"""
# Names are never used again: what was deleted stays as a row without files.
MODEL = """
CREATE TABLE tuned_model (
    name text PRIMARY KEY,
    project_id text NOT NULL REFERENCES project,
    base text NOT NULL,
    job_id text NOT NULL REFERENCES fine_tuning_job,
    step integer,
    path text NOT NULL,
    bytes bigint NOT NULL CHECK (bytes > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    removed_at timestamptz,
    CHECK (removed_at IS NULL OR deleted_at IS NOT NULL)
);
CREATE INDEX tuned_model_job ON tuned_model (job_id);
CREATE INDEX tuned_model_there ON tuned_model (name) WHERE removed_at IS NULL;
CREATE TABLE model_alias (
    name text PRIMARY KEY,
    project_id text NOT NULL REFERENCES project,
    target text NOT NULL REFERENCES tuned_model,
    previous text REFERENCES tuned_model,
    canary text REFERENCES tuned_model,
    share double precision NOT NULL DEFAULT 0 CHECK (share BETWEEN 0 AND 1),
    created_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((canary IS NULL) = (share = 0))
);
CREATE INDEX model_alias_project ON model_alias (project_id);
"""


def upgrade() -> None:
    op.execute(JOB)
    op.execute(MODEL)


def downgrade() -> None:
    op.execute(
        "DROP TABLE model_alias, tuned_model, fine_tuning_checkpoint, fine_tuning_event,"
        " fine_tuning_job"
    )
