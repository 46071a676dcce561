"""Recovery points for people: sizes, ages, and lists of points as Markdown and for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from orchestration.backups.points.catalogue import Point

_HEAD = ("point", "state", "made (UTC)", "age", "size", "stores", "reason")


def size_text(count: float) -> str:
    """Bytes as `950 B`, `1.2 GB`: decimal, as disks and buckets are sold."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.95 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def age_text(age: timedelta) -> str:
    """`4 min`, `26 h`, `12 d`; what lies in the future says so."""
    minutes = age.total_seconds() / 60
    if minutes < -1:
        return "in the future"
    if minutes < 100:
        return f"{max(minutes, 0):.0f} min"
    return f"{minutes / 60:.0f} h" if minutes < 48 * 60 else f"{minutes / 1440:.0f} d"


def as_table(points: Sequence[Point], now: datetime | None = None) -> str:
    """A Markdown table, newest first."""
    if not points:
        return "There is no recovery point."
    rows = [_HEAD, ("---",) * len(_HEAD), *(_row(point, now or datetime.now(UTC)) for point in points)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def as_text(points: Sequence[Point], now: datetime | None = None) -> str:
    """Columns for a terminal, newest first."""
    if not points:
        return "There is no recovery point."
    rows = [_HEAD, *(_row(point, now or datetime.now(UTC)) for point in points)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _row(point: Point, now: datetime) -> tuple[str, ...]:
    states = set(point.stores.values())
    where = ", ".join(name if len(states) < 2 else f"{name} {state}" for name, state in point.stores.items())
    return (
        point.id,
        point.state,
        point.made_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M"),
        age_text(now - point.made_at),
        size_text(point.size) if point.size else "",
        where,
        " ".join(point.reason.split()),
    )
