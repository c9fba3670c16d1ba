"""Projects, users, what keys may do and use up, prices, and the audit log"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

PROJECT = """
CREATE TABLE organisation (
    id text PRIMARY KEY,
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE project (
    id text PRIMARY KEY,
    organisation_id text NOT NULL REFERENCES organisation,
    name text NOT NULL,
    requests_per_minute integer CHECK (requests_per_minute > 0),
    tokens_per_minute integer CHECK (tokens_per_minute > 0),
    concurrent integer CHECK (concurrent > 0),
    cache jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    archived_at timestamptz
);
CREATE UNIQUE INDEX project_name ON project (organisation_id, lower(name))
    WHERE archived_at IS NULL;
INSERT INTO organisation (id, name) VALUES ('org_default', 'default');
INSERT INTO project (id, organisation_id, name) VALUES ('proj_default', 'org_default', 'default');
"""
USER = """
CREATE TABLE app_user (
    id text PRIMARY KEY,
    organisation_id text NOT NULL REFERENCES organisation,
    email text NOT NULL,
    name text NOT NULL,
    role text NOT NULL CHECK (role IN ('owner', 'reader')),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX app_user_email ON app_user (organisation_id, lower(email));
CREATE TABLE membership (
    project_id text NOT NULL REFERENCES project,
    user_id text NOT NULL REFERENCES app_user ON DELETE CASCADE,
    role text NOT NULL CHECK (role IN ('owner', 'member')),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, user_id)
);
CREATE INDEX membership_user ON membership (user_id);
"""
API_KEY = """
ALTER TABLE api_key
    ADD COLUMN project_id text REFERENCES project,
    ADD COLUMN user_id text REFERENCES app_user ON DELETE SET NULL,
    ADD COLUMN models text[] NOT NULL DEFAULT '{}',
    ADD COLUMN requests_per_minute integer CHECK (requests_per_minute > 0),
    ADD COLUMN tokens_per_minute integer CHECK (tokens_per_minute > 0),
    ADD COLUMN concurrent integer CHECK (concurrent > 0),
    ADD COLUMN rotated_at timestamptz,
    ADD COLUMN previous_digest bytea UNIQUE CHECK (octet_length(previous_digest) = 32),
    ADD COLUMN previous_until timestamptz,
    ADD CHECK (scopes <@ ARRAY['inference', 'training', 'files', 'admin', 'admin.read']),
    ADD CHECK ((previous_digest IS NULL) = (previous_until IS NULL));
UPDATE api_key SET project_id = 'proj_default';
ALTER TABLE api_key ALTER COLUMN project_id SET NOT NULL;
CREATE INDEX api_key_project ON api_key (project_id);
CREATE INDEX api_key_user ON api_key (user_id) WHERE user_id IS NOT NULL;
"""
MONEY = """
CREATE TABLE budget (
    id text PRIMARY KEY,
    key_id text REFERENCES api_key ON DELETE CASCADE,
    project_id text REFERENCES project ON DELETE CASCADE,
    period text NOT NULL CHECK (period IN ('day', 'week', 'month', 'total')),
    tokens bigint CHECK (tokens >= 0),
    micros bigint CHECK (micros >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (key_id, period),
    UNIQUE (project_id, period),
    CHECK (num_nonnulls(key_id, project_id) = 1),
    CHECK (num_nonnulls(tokens, micros) >= 1)
);
CREATE TABLE model_price (
    model text PRIMARY KEY,
    input bigint NOT NULL CHECK (input >= 0),
    cached bigint NOT NULL CHECK (cached >= 0),
    output bigint NOT NULL CHECK (output >= 0),
    gpu_second bigint NOT NULL CHECK (gpu_second >= 0),
    changed_at timestamptz NOT NULL DEFAULT now()
);
"""
AUDIT = """
CREATE TABLE audit (
    id text PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    action text NOT NULL,
    actor_key text NOT NULL,
    session boolean NOT NULL,
    target text NOT NULL,
    project_id text,
    before jsonb,
    after jsonb,
    request_id text NOT NULL
);
CREATE INDEX audit_target ON audit (target, id);
CREATE INDEX audit_project ON audit (project_id, id);
CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only';
END
$$;
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
"""
DOWN = """
DROP TABLE audit;
DROP FUNCTION audit_is_append_only;
DROP TABLE model_price;
DROP TABLE budget;
ALTER TABLE api_key
    DROP CONSTRAINT api_key_scopes_check,
    DROP COLUMN project_id,
    DROP COLUMN user_id,
    DROP COLUMN models,
    DROP COLUMN requests_per_minute,
    DROP COLUMN tokens_per_minute,
    DROP COLUMN concurrent,
    DROP COLUMN rotated_at,
    DROP COLUMN previous_digest,
    DROP COLUMN previous_until;
DROP TABLE membership;
DROP TABLE app_user;
DROP TABLE project;
DROP TABLE organisation;
"""


def upgrade() -> None:
    for step in (PROJECT, USER, API_KEY, MONEY, AUDIT):
        op.execute(step)


def downgrade() -> None:
    op.execute(DOWN)
