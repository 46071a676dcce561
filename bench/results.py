"""Rows of measurements: shown as a table, held to their bars, and kept in one file."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).with_name("results.json")


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement. `bar` is the least value that is good enough, or the most with `more_is_better=False`."""

    name: str
    value: float
    unit: str
    compared_with: str
    bar: float | None
    more_is_better: bool = True

    @property
    def missed(self) -> bool:
        """Whether the value is on the wrong side of the bar."""
        if self.bar is None:
            return False
        return self.value < self.bar - 1e-9 if self.more_is_better else self.value > self.bar + 1e-9


def machine() -> str:
    """What the numbers were measured on."""
    return f"{platform.machine()}, {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} processors"


def table(rows: Sequence[Row]) -> str:
    """The rows in columns."""
    lines = [("name", "value", "unit", "bar", "compared with")]
    for row in rows:
        bar = (
            ""
            if row.bar is None
            else f"{'≥' if row.more_is_better else '≤'} {row.bar:.4g}{' MISSED' if row.missed else ''}"
        )
        lines.append((row.name, f"{row.value:.4g}", row.unit, bar, row.compared_with))
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    return "\n".join("  ".join([*(line[i].ljust(widths[i]) for i in range(4)), line[4]]).rstrip() for line in lines)


def keep(bench: str, rows: Iterable[Row], path: Path = RESULTS) -> None:
    """Write the rows of one benchmark into the file; those of others stay as they are."""
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    others = [row for row in before if row.get("bench") != bench]
    now = [{"bench": bench, **asdict(row), "machine": machine()} for row in rows]
    text = json.dumps([*others, *now], ensure_ascii=False, indent=1)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)
