"""Recovery points for people and for Prometheus: tables of the Dagster UI, and the record in PostgreSQL."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress

import psycopg

from knowledge.database import DatabaseUnavailable
from objects.store import ObjectStoreError
from orchestration import operations_record
from orchestration.backups.database.server import words
from orchestration.backups.installation import Installation
from orchestration.backups.points import catalogue
from orchestration.backups.points.catalogue import Point
from orchestration.backups.points.listing import as_table, size_text
from orchestration.backups.recovery_point import Manifest, PostgresPart, VectorsPart
from orchestration.backups.restore.drill import Drill


def all_points(inst: Installation) -> list[Point]:
    """The points of every store that answers, newest first, each with the stores that have it."""
    found: list[Sequence[Point]] = []
    for store in inst.stores:
        with suppress(ObjectStoreError):  # told by the alerts; what the others have is still worth seeing
            found.append(catalogue.points(store))
    return catalogue.merge(found)


def points_markdown(inst: Installation) -> str:
    return as_table(all_points(inst)) or "none yet"


def record(inst: Installation) -> None:
    """Bring the record in PostgreSQL, which metrics are read from, up to what the stores have."""
    points = all_points(inst)
    with _said(inst), inst.catalog("record of recovery points") as connection:
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


def record_drill(inst: Installation, done: Drill) -> None:
    """Keep what a trial restore has shown."""
    with _said(inst), inst.catalog("record of a restore drill") as connection:
        operations_record.record_drill(
            connection,
            done.point,
            done.rto_seconds,
            rpo_seconds=done.rpo_seconds,
            passed=not done.problems,
            details={"seconds": done.timing.seconds, "problems": done.problems},
            at=done.began,
        )


@contextmanager
def _said(inst: Installation) -> Generator[None]:
    """What was done is not undone because it could not be written down."""
    try:
        yield
    except (DatabaseUnavailable, psycopg.Error) as error:
        inst.progress.say(f"the record that metrics are read from was not brought up to date: {words(error)}")


def as_text(point: Point, manifest: Manifest) -> str:
    """What is in a recovery point, for a terminal."""
    lines = [
        f"recovery point {point.id}: {point.state}" + (f" ({point.reason})" if point.reason else ""),
        f"  made {manifest.made_at:%Y-%m-%d %H:%M} UTC by {manifest.by}, {size_text(manifest.size)}, "
        + (f"encrypted with {manifest.key}" if manifest.key else "not encrypted"),
    ]
    for database in manifest.postgres.databases:
        rows = sum(table.rows for table in database.tables)
        lines.append(
            f"  {database.role} database {database.name}: PostgreSQL {database.server_version}, {len(database.tables)} "
            f"tables, {rows} rows, {size_text(database.dump.raw_size)} dumped, {size_text(database.dump.size)} stored"
        )
    vectors = manifest.vectors
    lines += [
        f"  collection {one.name}: {one.points} points, {size_text(one.snapshot.size)}" for one in vectors.collections
    ]
    lines += [f"  alias {alias} of {name}" for alias, name in sorted(vectors.aliases.items())]
    lines.append(f"  live release: {vectors.live_release or 'none'}")
    for source in manifest.files.sources:
        lines.append(f"  files {source.name}: {source.files}, {size_text(source.bytes)} ({source.url})")
    lines += [f"  {problem}" for problem in manifest.files.problems]
    if manifest.golden:
        lines.append(f"  {manifest.golden.questions} golden questions with what they find")
    return "\n".join(lines)


def tables_markdown(part: PostgresPart) -> str:
    rows = [
        f"| {database.role} | {table.name} | {table.rows} |"
        for database in part.databases
        for table in sorted(database.tables, key=lambda table: -table.rows)
        if database.role == "platform" or table.rows
    ]
    return "\n".join(["| database | table | rows |", "|---|---|---|", *rows[:60]])


def collections_markdown(part: VectorsPart) -> str:
    behind = {name: alias for alias, name in part.aliases.items()}
    rows = [
        f"| {one.name} | {behind.get(one.name, '')} | {one.points} | {size_text(one.snapshot.size)} |"
        for one in part.collections
    ]
    return "\n".join(["| collection | alias | points | snapshot |", "|---|---|---|---|", *rows])
