"""What is remembered of indexes: bytes for each row when as good as new, since when they are known, when checked last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from knowledge.database import Connection
from orchestration.maintenance.indexes.bloat import Bloat
from orchestration.maintenance.indexes.catalog import Index

Source: TypeAlias = Literal["rebuilt", "measured", "estimated", "first seen"]


@dataclass(frozen=True, slots=True)
class Baseline:
    """`bytes_per_row` is None until an index was looked at for bloat."""

    definition: str
    bytes_per_row: float | None
    source: Source | None
    days_known: float

    def bloat(self, index: Index) -> Bloat | None:
        """What the index's growth since then says. None where rows or the baseline are not known."""
        if self.bytes_per_row is None or index.rows <= 0:
            return None
        return Bloat(index.size, min(index.size, int(self.bytes_per_row * index.rows)), "baseline")


def read(connection: Connection) -> dict[str, Baseline]:
    """By `schema.name`."""
    rows = connection.execute(
        """
        SELECT schema || '.' || name, definition, bytes_per_row, source,
               (extract(epoch FROM now() - first_seen_at) / 86400)::float8
        FROM operations.index_baselines
        """
    ).fetchall()
    return {row[0]: Baseline(*row[1:]) for row in rows}


def meet(connection: Connection, indexes: list[Index]) -> None:
    """Note indexes that are new, begin anew with those that were redefined, and forget those that are gone."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO operations.index_baselines (schema, name, definition) VALUES (%s, %s, %s)
            ON CONFLICT (schema, name) DO UPDATE
            SET definition = excluded.definition, first_seen_at = now(), bytes_per_row = NULL, source = NULL,
                recorded_at = NULL, checked_at = NULL
            WHERE index_baselines.definition <> excluded.definition
            """,
            [(index.schema, index.name, index.definition) for index in indexes],
        )
        cursor.execute(
            "DELETE FROM operations.index_baselines WHERE schema || '.' || name <> ALL(%s)",
            ([index.title for index in indexes],),
        )


def record(connection: Connection, index: Index, bytes_per_row: float, source: Source) -> None:
    """Remember what an index takes for each row."""
    connection.execute(
        "UPDATE operations.index_baselines SET bytes_per_row = %s, source = %s, recorded_at = now() "
        "WHERE schema = %s AND name = %s",
        (bytes_per_row, source, index.schema, index.name),
    )


def checked(connection: Connection, index: Index) -> None:
    """Remember that amcheck found nothing wrong."""
    connection.execute(
        "UPDATE operations.index_baselines SET checked_at = now() WHERE schema = %s AND name = %s",
        (index.schema, index.name),
    )


def by_check(connection: Connection) -> list[str]:
    """Indexes by `schema.name`, those never checked first, then those checked longest ago."""
    return [
        row[0]
        for row in connection.execute(
            "SELECT schema || '.' || name FROM operations.index_baselines ORDER BY checked_at NULLS FIRST, schema, name"
        )
    ]
