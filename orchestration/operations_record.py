"""What operations are seen by, in the database: recovery points and trial restores, for metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from psycopg.types.json import Json

from knowledge.database import Connection


@dataclass(frozen=True, slots=True)
class PointRow:
    """A recovery point: `made_at` None for a try that did not get as far, `seconds` are those that making it took."""

    id: str
    state: Literal["complete", "verified", "failed"]
    made_at: datetime | None = None
    verified_at: datetime | None = None
    size_bytes: int = 0
    seconds: float = 0.0
    stores: tuple[str, ...] = ()
    reason: str = ""


def record_points(connection: Connection, rows: Sequence[PointRow]) -> None:
    """Let the table have exactly these points. One transaction; a row that stays as it is keeps its `updated_at`."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE operations.recovery_points IN SHARE ROW EXCLUSIVE MODE")
        cursor.execute(
            "DELETE FROM operations.recovery_points WHERE id <> ALL(%s::text[])", ([row.id for row in rows],)
        )
        cursor.executemany(
            """
            INSERT INTO operations.recovery_points AS known
                (id, state, made_at, verified_at, size_bytes, seconds, stores, reason)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
            ON CONFLICT (id) DO UPDATE SET state = excluded.state, made_at = excluded.made_at,
                verified_at = excluded.verified_at, size_bytes = excluded.size_bytes, seconds = excluded.seconds,
                stores = excluded.stores, reason = excluded.reason, updated_at = now()
            WHERE (known.state, known.made_at, known.verified_at, known.size_bytes, known.seconds, known.stores, known.reason)
                IS DISTINCT FROM (excluded.state, excluded.made_at, excluded.verified_at, excluded.size_bytes,
                                  excluded.seconds, excluded.stores, excluded.reason)
            """,
            [
                (row.id, row.state, row.made_at, row.verified_at, row.size_bytes, row.seconds, list(row.stores), row.reason)
                for row in rows
            ],
        )  # fmt: skip


def record_drill(
    connection: Connection,
    point: str,
    seconds: float,
    *,
    rpo_seconds: float | None,
    passed: bool,
    details: Mapping[str, Any] | None = None,
    at: datetime | None = None,
) -> None:
    """Note a trial restore; `details` is JSON, for example seconds by step."""
    connection.execute(
        """
        INSERT INTO operations.restore_drills (point, at, seconds, rpo_seconds, passed, details)
        VALUES (%s, coalesce(%s, now()), %s, %s, %s, %s)
        """,
        (point, at, seconds, rpo_seconds, passed, Json(dict(details or {}))),
    )
