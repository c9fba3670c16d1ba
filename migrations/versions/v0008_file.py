"""Files, uploads, and the blobs their bytes are in"""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

FILE = """
ALTER TABLE project ADD COLUMN file_bytes bigint CHECK (file_bytes >= 0);
CREATE TABLE file (
    id text PRIMARY KEY,
    project_id text NOT NULL REFERENCES project,
    filename text NOT NULL,
    purpose text NOT NULL,
    bytes bigint NOT NULL CHECK (bytes >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz
);
CREATE INDEX file_project ON file (project_id, id);
CREATE INDEX file_expiry ON file (expires_at) WHERE expires_at IS NOT NULL;
"""
UPLOAD = """
CREATE TABLE upload (
    id text PRIMARY KEY,
    project_id text NOT NULL REFERENCES project,
    filename text NOT NULL,
    purpose text NOT NULL,
    bytes bigint NOT NULL CHECK (bytes > 0),
    file_seconds integer CHECK (file_seconds > 0),
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'completed', 'cancelled')),
    file_id text REFERENCES file ON DELETE SET NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX upload_file ON upload (file_id) WHERE file_id IS NOT NULL;
CREATE INDEX upload_project ON upload (project_id);
CREATE INDEX upload_expiry ON upload (expires_at);
"""
BLOB = """
CREATE TABLE blob (
    id text PRIMARY KEY,
    project_id text NOT NULL REFERENCES project,
    bytes bigint NOT NULL CHECK (bytes >= 0),
    file_id text REFERENCES file ON DELETE SET NULL,
    upload_id text REFERENCES upload ON DELETE SET NULL,
    position integer NOT NULL DEFAULT 0,
    lease_until timestamptz,
    CHECK (num_nonnulls(file_id, upload_id, lease_until) <= 1)
);
CREATE INDEX blob_project ON blob (project_id) INCLUDE (bytes);
CREATE INDEX blob_file ON blob (file_id, position) WHERE file_id IS NOT NULL;
CREATE INDEX blob_upload ON blob (upload_id) WHERE upload_id IS NOT NULL;
CREATE INDEX blob_loose ON blob (lease_until) WHERE file_id IS NULL AND upload_id IS NULL;
"""


def upgrade() -> None:
    for step in (FILE, UPLOAD, BLOB):
        op.execute(step)


def downgrade() -> None:
    for table in ("blob", "upload", "file"):
        op.execute(f"DROP TABLE {table}")
    op.execute("ALTER TABLE project DROP COLUMN file_bytes")
