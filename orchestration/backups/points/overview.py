"""What is in a recovery point, for people: as text for a terminal, as tables for the Dagster UI."""

from __future__ import annotations

from orchestration.backups.installation import Installation
from orchestration.backups.points.catalogue import Point, all_points
from orchestration.backups.points.listing import as_table
from orchestration.backups.recovery_point import Manifest, PostgresPart, VectorsPart
from orchestration.backups.units import size_text


def points_markdown(inst: Installation) -> str:
    return as_table(all_points(inst.stores)) or "none yet"


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
