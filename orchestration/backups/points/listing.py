"""Recovery points for people: lists of them as Markdown and for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from orchestration.backups.points.catalogue import Point
from orchestration.backups.units import age_text, size_text

_HEAD = ("point", "state", "made (UTC)", "age", "size", "stores", "reason")


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
