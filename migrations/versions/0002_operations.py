"""What operations should be seen by: recovery points and trial restores. The stores are the record, this is a copy."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SQL = """
CREATE SCHEMA operations;

-- The recovery points that there are, as the last run saw them in the stores.
CREATE TABLE operations.recovery_points (
    id text PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('complete', 'verified', 'failed')),
    made_at timestamptz,               -- what came later is lost with this point
    verified_at timestamptz,
    size_bytes bigint NOT NULL DEFAULT 0,
    seconds double precision NOT NULL DEFAULT 0,  -- that making it took
    stores text[] NOT NULL DEFAULT '{}',
    reason text NOT NULL DEFAULT '',   -- why it failed: one sentence
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- Trial restores.
CREATE TABLE operations.restore_drills (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    point text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    seconds double precision NOT NULL, -- until everything answered: the RTO
    rpo_seconds double precision,      -- age of the point when the drill began
    passed boolean NOT NULL,
    details jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX restore_drills_by_time ON operations.restore_drills (at);
"""


def upgrade() -> None:
    op.execute(SQL)
