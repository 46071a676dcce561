"""What maintenance remembers: how large indexes should be, and figures of statements."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SQL = """
CREATE SCHEMA IF NOT EXISTS operations;

-- One row for each index ever seen. `bytes_per_row` is what it takes when it is as good as new: its growth is bloat.
CREATE TABLE operations.index_baselines (
    schema text NOT NULL,
    name text NOT NULL,
    definition text NOT NULL,          -- another one under the same name begins anew
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    bytes_per_row double precision,
    source text CHECK (source IN ('rebuilt', 'measured', 'estimated', 'first seen')),
    recorded_at timestamptz,
    checked_at timestamptz,            -- by amcheck
    PRIMARY KEY (schema, name),
    CHECK ((bytes_per_row IS NULL) = (source IS NULL))
);

-- pg_stat_statements at one time: counters since `counting_since`.
CREATE TABLE operations.statement_snapshots (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    taken_at timestamptz NOT NULL DEFAULT now(),
    counting_since timestamptz
);
CREATE INDEX statement_snapshots_by_time ON operations.statement_snapshots (taken_at);

CREATE TABLE operations.statements (
    queryid bigint PRIMARY KEY,
    text text NOT NULL                 -- normalised: no values
);

CREATE TABLE operations.statement_figures (
    snapshot_id bigint NOT NULL REFERENCES operations.statement_snapshots ON DELETE CASCADE,
    queryid bigint NOT NULL REFERENCES operations.statements,
    calls bigint NOT NULL,
    total_ms double precision NOT NULL,
    rows bigint NOT NULL,
    blocks_hit bigint NOT NULL,
    blocks_read bigint NOT NULL,
    temp_blocks bigint NOT NULL,
    PRIMARY KEY (snapshot_id, queryid)
);
CREATE INDEX statement_figures_by_statement ON operations.statement_figures (queryid);
"""


def upgrade() -> None:
    op.execute(SQL)
