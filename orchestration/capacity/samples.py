"""The history of what was measured: operations.capacity_samples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

from psycopg.types.json import Json

from knowledge.database import Connection

Kind: TypeAlias = Literal["disk", "memory", "connections", "size"]
Point: TypeAlias = tuple[datetime, int, int | None]
"""(time, used, total) of a sample."""


@dataclass(frozen=True)
class Sample:
    """One measured thing. `used` and `total` are bytes, or connections."""

    kind: Kind
    name: str
    used: int
    total: int | None = None
    facts: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Growth:
    """How much a thing has grown between its first and its last sample of a stretch of time."""

    name: str
    bytes: int
    now: int
    days: float


def keep(connection: Connection, samples: Iterable[Sample], keep_days: int) -> int:
    """Write samples, all with one time, and delete those that are too old. Gives how many were written."""
    rows = [(s.kind, s.name, s.used, s.total, Json(s.facts)) for s in samples]
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO operations.capacity_samples (kind, name, used, total, facts) VALUES (%s, %s, %s, %s, %s)", rows
        )
        cursor.execute(
            "DELETE FROM operations.capacity_samples WHERE taken_at < now() - make_interval(days => %s)", (keep_days,)
        )
    return len(rows)


def history(connection: Connection, kind: Kind, name: str, days: float) -> list[Point]:
    """(time, used, total) of one thing's samples, oldest first."""
    return connection.execute(
        "SELECT taken_at, used, total FROM operations.capacity_samples "
        "WHERE kind = %s AND name = %s AND taken_at > now() - %s ORDER BY taken_at",
        (kind, name, timedelta(days=days)),
    ).fetchall()


def growers(connection: Connection, days: float, limit: int = 10) -> list[Growth]:
    """What has grown most: databases, tables, collections, buckets and folders. Largest growth first."""
    rows = connection.execute(
        """
        SELECT name, last_used - first_used, last_used, extract(epoch FROM last_at - first_at) / 86400 FROM (
            SELECT DISTINCT name,
                   first_value(used) OVER oldest AS first_used, first_value(taken_at) OVER oldest AS first_at,
                   first_value(used) OVER newest AS last_used, first_value(taken_at) OVER newest AS last_at
            FROM operations.capacity_samples WHERE kind = 'size' AND taken_at > now() - %s
            WINDOW oldest AS (PARTITION BY name ORDER BY taken_at), newest AS (PARTITION BY name ORDER BY taken_at DESC)
        ) spans WHERE last_used > first_used ORDER BY 2 DESC, name LIMIT %s
        """,
        (timedelta(days=days), limit),
    ).fetchall()
    return [Growth(str(name), int(grown), int(now), float(span)) for name, grown, now, span in rows]
