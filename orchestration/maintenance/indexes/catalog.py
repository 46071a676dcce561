"""Indexes as the catalogue has them: what reports compare, and what maintenance works on."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from knowledge.database import Connection
from orchestration.maintenance.session import Facts


@dataclass(frozen=True, slots=True)
class Index:
    """One index. What makes two of them the same is `method` and `keys` to `uniqueness`, as text of the catalogue."""

    oid: int
    schema: str
    name: str
    table_oid: int
    table: str  # schema.table, quoted where needed
    table_name: str
    method: str
    definition: str
    keys: tuple[str, ...]  # key columns with operator class and its options, collation, and ordering
    columns: tuple[str, ...]  # of the keys, expressions as text
    included: tuple[str, ...]
    predicate: str
    unique: bool
    nulls_not_distinct: bool
    primary: bool
    exclusion: bool
    constraint: str  # the constraint it belongs to, or empty
    referenced: bool  # by foreign keys of other tables
    replica_identity: bool
    clustered: bool
    partition: bool  # a part of a partitioned index
    valid: bool
    size: int  # bytes
    rows: float  # as of the last vacuum or analyze
    table_pages: int
    options: tuple[str, ...]  # fillfactor=70
    scans: int
    idle_days: float | None  # since the last scan; None without one, and before PostgreSQL 16
    permitted: bool  # whether the role may rebuild and drop it

    @property
    def title(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    @property
    def constrains(self) -> bool:
        """Whether it guarantees something, besides being looked up in."""
        return self.unique or self.primary or self.exclusion or self.replica_identity


def read_indexes(connection: Connection, can: Facts, oid: int | None = None) -> list[Index]:
    """All indexes outside of the system's schemas, or one. Those of partitioned tables as a whole are left out: they
    have no storage. Read without a lock on any of them."""
    maintain = "OR has_table_privilege(t.oid, 'MAINTAIN')" if can.version >= 17 else ""
    idle = (
        "(extract(epoch FROM now() - pg_stat_get_lastscan(c.oid)) / 86400)::float8"
        if can.version >= 16
        else "NULL::float8"
    )
    query = sql.SQL(_INDEXES).format(maintain=sql.SQL(maintain), idle=sql.SQL(idle))
    rows = connection.execute(query, {"oid": oid}).fetchall()
    return [
        Index(
            oid=r[0], schema=r[1], name=r[2], table_oid=r[3], table=r[4], table_name=r[5], method=r[6], definition=r[7],
            keys=tuple(r[8]), columns=tuple(r[9]), included=tuple(r[10] or ()), predicate=r[11] or "", unique=r[12],
            nulls_not_distinct=r[13], primary=r[14], exclusion=r[15], constraint=r[16] or "", referenced=r[17],
            replica_identity=r[18], clustered=r[19], partition=r[20], valid=r[21], size=r[22], rows=r[23],
            table_pages=r[24], options=tuple(r[25] or ()), scans=r[26], idle_days=r[27], permitted=r[28],
        )
        for r in rows
    ]  # fmt: skip


# pg_relation_size waits for whoever has an index locked exclusively; that one's size is the last vacuum's.
_INDEXES = """
    SELECT c.oid, n.nspname::text, c.relname::text, t.oid, format('%%I.%%I', tn.nspname, t.relname), t.relname::text,
           am.amname::text, coalesce(pg_get_indexdef(c.oid), ''),
           ARRAY(SELECT concat_ws(' ', pg_get_indexdef(c.oid, k, false), oc.opcname || ' of ' || oc.opcnamespace::text,
                                  array_to_string(a.attoptions, ','), 'collation ' || i.indcollation[k - 1]::text,
                                  'option ' || i.indoption[k - 1]::text)
                 FROM generate_series(1, i.indnkeyatts) k
                 JOIN pg_opclass oc ON oc.oid = i.indclass[k - 1]
                 JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k
                 ORDER BY k),
           ARRAY(SELECT pg_get_indexdef(c.oid, k, false) FROM generate_series(1, i.indnkeyatts) k ORDER BY k),
           ARRAY(SELECT pg_get_indexdef(c.oid, k, false)
                 FROM generate_series(i.indnkeyatts + 1, i.indnatts) k ORDER BY k),
           pg_get_expr(i.indpred, i.indrelid),
           i.indisunique, i.indnullsnotdistinct, i.indisprimary, i.indisexclusion,
           (SELECT con.conname::text FROM pg_constraint con WHERE con.conindid = c.oid AND con.contype IN ('p', 'u', 'x')),
           EXISTS (SELECT FROM pg_constraint con WHERE con.conindid = c.oid AND con.contype = 'f'),
           i.indisreplident, i.indisclustered, c.relispartition,
           i.indisvalid AND i.indisready AND i.indislive,
           CASE WHEN EXISTS (SELECT FROM pg_locks l WHERE l.relation IN (c.oid, t.oid) AND l.mode = 'AccessExclusiveLock'
                              AND l.database = d.oid)
                THEN c.relpages::bigint * current_setting('block_size')::bigint
                ELSE coalesce(pg_relation_size(c.oid), 0) END,
           c.reltuples::float8, t.relpages, c.reloptions, coalesce(pg_stat_get_numscans(c.oid), 0),
           {idle},
           pg_has_role(t.relowner, 'USAGE') {maintain}
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_class t ON t.oid = i.indrelid
    JOIN pg_namespace tn ON tn.oid = t.relnamespace
    JOIN pg_am am ON am.oid = c.relam
    JOIN pg_database d ON d.datname = current_database()
    WHERE c.relkind = 'i' AND c.relpersistence <> 't'
      AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_temp\\_%%'
      AND (n.nspname NOT LIKE 'pg\\_toast%%' OR has_schema_privilege(n.oid, 'USAGE'))
      AND (%(oid)s::oid IS NULL OR c.oid = %(oid)s::oid)
    ORDER BY n.nspname, c.relname
"""
