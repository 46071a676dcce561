"""Reports as Markdown: tables and figures as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, limit: int = 200, none: str = "none") -> str:
    """A Markdown table; `none` where there are no rows. Rows beyond the limit are counted."""
    lines = [[_cell(value) for value in row] for row in rows]
    if not lines:
        return none
    text = [f"| {' | '.join(headings)} |", f"|{'---|' * len(headings)}"]
    text += [f"| {' | '.join(line)} |" for line in lines[:limit]]
    if len(lines) > limit:
        text += ["", f"and {len(lines) - limit} more"]
    return "\n".join(text)


def bullets(lines: Iterable[str], none: str = "none") -> str:
    """A Markdown list."""
    return "\n".join(f"- {line}" for line in lines) or none


def code(statement: str) -> str:
    """SQL for a table's cell."""
    return f"`{' '.join(statement.split())}`" if statement else ""


def size(number: float | None) -> str:
    """Bytes: `1.5 MiB`."""
    if number is None:
        return "unknown"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(number) < 1024:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def percent(share: float | None) -> str:
    """A share as `12 %`."""
    return "" if share is None else f"{share * 100:.0f} %"


def duration(seconds: float | None) -> str:
    """`350 ms`, `12 s`, `3 min`, `5.2 h`, `4.0 d`."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "min")):
        if seconds < limit:
            return f"{seconds / divisor:.0f} {unit}"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.1f} d"


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")
