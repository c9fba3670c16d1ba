"""Exports: tuned models made files of their project"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

# Without a reference to the file: it is its project's to delete.
EXPORT = """
CREATE TABLE model_export (
    id text PRIMARY KEY,
    project_id text NOT NULL REFERENCES project,
    model text NOT NULL REFERENCES tuned_model,
    format text NOT NULL CHECK (format IN ('adapter', 'safetensors', 'gguf')),
    quantisation text CHECK (quantisation IN ('q8_0', 'f16')),
    status text NOT NULL DEFAULT 'queued'
        CHECK (status IN ('queued', 'running', 'succeeded', 'failed')),
    fence bigint NOT NULL DEFAULT 0,
    owner text,
    lease_until timestamptz,
    starts integer NOT NULL DEFAULT 0,
    file_id text,
    bytes bigint CHECK (bytes > 0),
    error jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    CHECK ((quantisation IS NOT NULL) = (format = 'gguf')),
    CHECK ((owner IS NULL) = (lease_until IS NULL)),
    CHECK ((status IN ('succeeded', 'failed')) = (finished_at IS NOT NULL)),
    CHECK ((status = 'failed') = (error IS NOT NULL)),
    CHECK ((status = 'succeeded') = (file_id IS NOT NULL AND bytes IS NOT NULL))
);
CREATE INDEX model_export_project ON model_export (project_id, id);
CREATE INDEX model_export_open ON model_export (id) WHERE finished_at IS NULL;
"""


def upgrade() -> None:
    op.execute(EXPORT)


def downgrade() -> None:
    op.execute("DROP TABLE model_export")
