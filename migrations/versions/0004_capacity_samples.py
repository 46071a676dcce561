"""Samples of disks, memory, connections and sizes: what trends and plots are drawn from."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SQL = """
CREATE SCHEMA IF NOT EXISTS operations;

-- One measured thing at one time. Rows older than CAPACITY_KEEP_DAYS are deleted when new ones are written.
CREATE TABLE operations.capacity_samples (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    taken_at timestamptz NOT NULL DEFAULT now(),
    kind text NOT NULL CHECK (kind IN ('disk', 'memory', 'connections', 'size')),
    name text NOT NULL,                -- volume, service, server, or what has the size ("table knowledge.vectors")
    used bigint NOT NULL,              -- bytes; connections
    total bigint,                      -- what there is of it, in the same unit; null where nothing limits it
    facts jsonb NOT NULL DEFAULT '{}'  -- what else is known of it: level, days_to_full, filesystem
);
CREATE INDEX capacity_samples_by_name ON operations.capacity_samples (kind, name, taken_at DESC);
CREATE INDEX capacity_samples_by_time ON operations.capacity_samples (taken_at);
"""


def upgrade() -> None:
    op.execute(SQL)
