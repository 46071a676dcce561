"""Sequences, and how much of their numbers is used. A column's type may end before its sequence does."""

from __future__ import annotations

from dataclasses import dataclass

from knowledge.database import Connection


@dataclass(frozen=True, slots=True)
class Sequence:
    """`share` of the numbers is used, 0 to 1, and `left` are not. `mend` is the statement that gives more."""

    name: str
    share: float
    left: int
    mend: str


def read(connection: Connection) -> list[Sequence]:
    """Sequences that do not begin again by themselves, the fullest first; those that the role may not read are left out."""
    rows = connection.execute(
        """
        SELECT format('%I.%I', s.schemaname, s.sequencename), s.start_value, s.min_value, s.max_value,
               s.increment_by, s.last_value, c.name, c.type, c.limit
        FROM pg_sequences s
        LEFT JOIN LATERAL (
            SELECT format('%I.%I.%I', n.nspname, t.relname, a.attname) AS name, ty.typname::text AS type,
                   CASE ty.typname WHEN 'int2' THEN 32767 WHEN 'int4' THEN 2147483647 END AS limit
            FROM pg_depend d
            JOIN pg_class t ON t.oid = d.refobjid
            JOIN pg_namespace n ON n.oid = t.relnamespace
            JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
            JOIN pg_type ty ON ty.oid = a.atttypid
            WHERE d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
              AND d.objid = to_regclass(format('%I.%I', s.schemaname, s.sequencename)) LIMIT 1) c ON true
        WHERE NOT s.cycle AND s.last_value IS NOT NULL
        """
    ).fetchall()
    found = [_sequence(*row) for row in rows]
    return sorted(found, key=lambda sequence: -sequence.share)


def _sequence(
    name: str, start: int, least: int, most: int, step: int, last: int, column: str | None, kind: str, limit: int | None
) -> Sequence:
    if step > 0:
        end = min(most, limit) if limit else most
        numbers, used = end - start + 1, last - start + step
    else:
        end = max(least, -limit - 1) if limit else least
        numbers, used = start - end + 1, start - last - step
    share = min(1.0, max(0.0, used / numbers)) if numbers > 0 else 1.0
    left = max(0, (numbers - used) // abs(step))
    if column and limit and kind != "int8":
        table, _, plain = column.rpartition(".")
        mend = f"ALTER TABLE {table} ALTER COLUMN {plain} TYPE bigint; ALTER SEQUENCE {name} AS bigint; (it rewrites the table)"
    else:
        mend = f"ALTER SEQUENCE {name} AS bigint NO MAXVALUE NO MINVALUE;"
    return Sequence(name, share, left, mend)
