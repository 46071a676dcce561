"""The record of recovery points in PostgreSQL, which metrics are read from: a copy of what the stores say."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import psycopg

from knowledge.database import DatabaseUnavailable
from orchestration import operations_record
from orchestration.backups.database.server import words
from orchestration.backups.installation import Installation
from orchestration.backups.points import catalogue
from orchestration.backups.points.catalogue import Point


def bring_up_to_date(inst: Installation) -> None:
    """Bring the record in PostgreSQL, which metrics are read from, up to what the stores have."""
    points = catalogue.all_points(inst.stores)
    with written_down(inst), inst.catalog("record of recovery points") as connection:
        operations_record.record_points(connection, [_row(point) for point in points])


def _row(point: Point) -> operations_record.PointRow:
    return operations_record.PointRow(
        id=point.id,
        state=point.state,
        made_at=point.made_at,
        verified_at=point.verified_at,
        size_bytes=point.size,
        seconds=sum(point.manifest.seconds.values()) if point.manifest else 0.0,
        stores=tuple(point.stores),
        reason=point.reason,
    )


@contextmanager
def written_down(inst: Installation) -> Generator[None]:
    """What was done is not undone because it could not be written down."""
    try:
        yield
    except (DatabaseUnavailable, psycopg.Error) as error:
        inst.progress.say(f"the record that metrics are read from was not brought up to date: {words(error)}")
