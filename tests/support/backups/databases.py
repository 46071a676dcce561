"""A database that has everything a backup can lose, and the servers it is tried on."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql

from embedded.services import postgres
from orchestration.backups.database import siblings
from orchestration.backups.database.dump import Dump
from orchestration.backups.database.load import restore_into
from orchestration.backups.database.server import on_database
from orchestration.backups.recovery_point import Blob, Database
from zhiyun.postgresql import Programs

NOW = datetime(2026, 11, 24, 3, 15, tzinfo=UTC)
BLOB = Blob(key="points/x/1/postgres.dump.zst", size=1, sha256="0" * 64, raw_size=1)
TABLES = """
CREATE TABLE customers (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, note text);
CREATE TABLE orders (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), customer int NOT NULL REFERENCES customers ON DELETE CASCADE,
    amount numeric(12, 2) NOT NULL CHECK (amount >= 0), at timestamptz NOT NULL DEFAULT now(), wait interval, ratio float8
);
CREATE INDEX orders_by_customer ON orders (customer, at);
CREATE INDEX customers_by_name ON customers USING gin (name gin_trgm_ops);
CREATE TABLE visits (page text, seconds int);
CREATE TABLE models (name text PRIMARY KEY, package bytea);
CREATE SCHEMA "客服";
CREATE TABLE "客服"."对话 ""一"" 号" (x int, "键" text COLLATE "C", PRIMARY KEY ("键", x));
CREATE TABLE older (x int PRIMARY KEY);
CREATE TABLE newer (PRIMARY KEY (x)) INHERITS (older);
CREATE TABLE by_month (month int NOT NULL, value text) PARTITION BY RANGE (month);
CREATE TABLE by_month_1 PARTITION OF by_month FOR VALUES FROM (1) TO (2);
CREATE VIEW spenders AS SELECT customer, sum(amount) FROM orders GROUP BY 1;
CREATE FUNCTION greeting(text) RETURNS text LANGUAGE sql AS $$ SELECT '您好，' || $1 $$;
GRANT SELECT ON customers TO "Reader 读者";
"""
ROWS = """
INSERT INTO customers (name, note) SELECT '张三' || i, CASE i % 3 WHEN 0 THEN NULL WHEN 1 THEN E'两行\\n\\t“引号” \\\\ 😀' ELSE '' END
    FROM generate_series(1, 500) i;
INSERT INTO orders (customer, amount, at, wait, ratio)
    SELECT 1 + i % 500, i / 7.0, '2026-01-01T00:00Z'::timestamptz + i * interval '1 h', i * interval '1 min', i / 3.0
    FROM generate_series(1, 3000) i;
INSERT INTO visits SELECT '/帮助/' || i % 5, i FROM generate_series(1, 50) i;
INSERT INTO models SELECT 'model-' || i, decode(repeat(md5(i::text), 4000), 'hex') FROM generate_series(1, 5) i;
INSERT INTO "客服"."对话 ""一"" 号" SELECT i, '键' || i FROM generate_series(1, 300) i;
INSERT INTO older SELECT generate_series(1, 10);
INSERT INTO newer SELECT generate_series(11, 15);
INSERT INTO by_month SELECT 1, 'x' FROM generate_series(1, 20);
SELECT lo_from_bytea(0, convert_to('大对象', 'UTF8'));
"""
BULK = "CREATE TABLE bulk AS SELECT i, repeat(md5(i::text), 40) AS text FROM generate_series(1, 16000) i"


@dataclass(frozen=True)
class Server:
    """A running PostgreSQL and the client programs that suit it."""

    cluster: postgres.Cluster
    programs: Programs

    @property
    def major(self) -> int:
        return self.programs.major

    def admin(self, database: str = "postgres") -> str:
        """As superuser."""
        return self.cluster.url(database, "postgres")

    def make(self, *, filled: bool = True, bulk: bool = False) -> str:
        """A new database of the ordinary role's; gives its name."""
        name = f"live_{uuid.uuid4().hex[:10]}"
        run(self.admin(), f"CREATE DATABASE {name} OWNER zhiyun")
        if filled:
            run(self.cluster.url(name), TABLES, ROWS)
        if bulk:
            run(self.cluster.url(name), BULK)
        return name

    def url(self, database: str, role: str) -> str:
        """As `superuser` or as `owner`."""
        return self.cluster.url(database, "postgres" if role == "superuser" else "zhiyun")

    def drop(self, names: Iterable[str]) -> None:
        with psycopg.connect(self.admin(), autocommit=True) as connection:
            for name in names:
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def names(self) -> set[str]:
        return {row[0] for row in rows(self.admin(), "SELECT datname FROM pg_database")}


def run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


def value(url: str, query: str) -> Any:
    return rows(url, query)[0][0]


def dumped(url: str, programs: Programs) -> tuple[bytes, Database]:
    """A dump, whole in memory, and its entry in a manifest."""
    with Dump(url, programs) as dump:
        archive = b"".join(dump.chunks())
        return archive, dump.database("platform", BLOB)


def restored(server: Server, admin: str, live: str, data: bytes) -> str:
    """A new database beside the live one, with what is in the archive; gives its name."""
    name = siblings.name_beside(live, "restore", datetime.now(UTC))
    siblings.create(admin, name, live)
    restore_into(on_database(admin, name), in_pieces(data), server.programs)
    return name


def everything(url: str) -> dict[str, list[Any]]:
    """Every row of every table as text, the large objects, the sequences, and what else there is."""
    found: dict[str, list[Any]] = {}
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET timezone = 'UTC'")
        tables = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname !~ '^(pg_|information_schema)'"
        ).fetchall()
        for schema, table in tables:
            query = sql.SQL("SELECT t::text FROM {} t ORDER BY 1").format(sql.Identifier(schema, table))
            found[f"{schema}.{table}"] = connection.execute(query).fetchall()
        for what, query in {
            "large objects": "SELECT oid, lo_get(oid) FROM pg_largeobject_metadata ORDER BY 1",
            "sequences": "SELECT schemaname, sequencename, last_value FROM pg_sequences ORDER BY 1, 2",
            "indexes": "SELECT indexdef FROM pg_indexes WHERE schemaname !~ '^pg_' ORDER BY 1",
            "constraints": "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype <> 'n' ORDER BY 1, 2",
            "views": "SELECT viewname, definition FROM pg_views WHERE viewowner = 'zhiyun' ORDER BY 1",
            "function": "SELECT public.greeting('张三')",
            "grants": "SELECT grantee, table_name, privilege_type FROM information_schema.role_table_grants "
            "WHERE grantee LIKE 'Reader%' ORDER BY 2, 3",
            "owners": "SELECT relname, pg_get_userbyid(relowner) FROM pg_class c WHERE relnamespace = 'public'::regnamespace "
            "AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e') ORDER BY 1",
        }.items():
            found[what] = connection.execute(query.encode()).fetchall()
    return found


def in_pieces(data: bytes, size: int = 65_536) -> Iterable[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))
