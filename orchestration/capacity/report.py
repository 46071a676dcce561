"""What the capacity assets find out, and how it is told: figures to samples, sentences and Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from knowledge.database import Connection
from orchestration.capacity import plots, samples, sizes, trend
from orchestration.capacity.connections import Connections
from orchestration.capacity.disk import LEVELS, Disks, Filesystem, Level, level, size
from orchestration.capacity.memory import Memory
from orchestration.capacity.samples import Growth, Sample
from zhiyun.settings import CapacitySettings


@dataclass(frozen=True)
class Judged:
    """A filesystem with what its past says. `days` until it is full, None where it does not surely fill."""

    filesystem: Filesystem
    level: Level
    trend: trend.Trend | None = None
    days: float | None = None
    plot: str = ""

    def told(self) -> str:
        """One sentence: how full, and when it will be full."""
        if self.days is None:
            return self.filesystem.told()
        return f"{self.filesystem.told()}, full in {self.days:.1f} days at {size(self.trend.per_day if self.trend else 0)} a day"


@dataclass(frozen=True)
class DiskReport:
    """All disks, and what grows on them."""

    disks: tuple[Judged, ...]
    problems: tuple[str, ...]
    growers: tuple[Growth, ...] = field(default=())

    @property
    def level(self) -> Level:
        """The worst of all."""
        return LEVELS[max((LEVELS.index(judged.level) for judged in self.disks), default=0)]

    def soon_full(self, settings: CapacitySettings) -> list[Judged]:
        """Those that will be full before CAPACITY_FULL_DAYS have passed."""
        return [judged for judged in self.disks if judged.days is not None and judged.days < settings.full_days]


def judge(disks: Disks, settings: CapacitySettings, connection: Connection | None) -> DiskReport:
    """Disks with their trends, plots and growers; without a connection, only how full they are now."""
    if connection is None:
        now = tuple(Judged(f, level(f.percent, settings)) for f in disks.filesystems)
        return DiskReport(now, disks.problems)
    judged: list[Judged] = []
    for filesystem in disks.filesystems:
        # All folders of a filesystem have its figures; the one with the longest past tells it best.
        pasts = [samples.history(connection, "disk", v.name, settings.keep_days) for v in filesystem.volumes]
        past = [*max(pasts, key=len, default=[]), (datetime.now(UTC), filesystem.used, filesystem.total)]
        line = trend.fit([(at, used) for at, used, _ in _lately(past, settings.trend_days)])
        percents = [(at, 100 * used / total) for at, used, total in past if total]
        limits = (settings.warning_percent, settings.serious_percent, settings.critical_percent)
        judged.append(
            Judged(
                filesystem, level(filesystem.percent, settings), line, trend.days_to_full(line, filesystem.free),
                plots.percent_plot(filesystem.name, percents, limits),
            )
        )  # fmt: skip
    return DiskReport(tuple(judged), disks.problems, tuple(samples.growers(connection, settings.trend_days)))


def disk_samples(report: DiskReport) -> list[Sample]:
    """One sample for each folder, with its filesystem's figures."""
    return [
        Sample(
            "disk", volume.name, judged.filesystem.used, judged.filesystem.total,
            {
                "percent": round(judged.filesystem.percent, 2), "level": judged.level, "path": str(volume.path),
                "filesystem": judged.filesystem.name,
                **({"days_to_full": round(judged.days, 2)} if judged.days is not None else {}),
            },
        )
        for judged in report.disks
        for volume in judged.filesystem.volumes
    ]  # fmt: skip


def memory_samples(found: Sequence[Memory]) -> list[Sample]:
    return [
        Sample("memory", m.service, m.used, m.limit or None, {"percent": round(m.percent, 2), "source": m.source})
        for m in found
    ]


def connection_samples(found: Sequence[Connections]) -> list[Sample]:
    return [
        Sample("connections", c.server, c.used, c.total or None, {"percent": round(c.percent, 2)}) for c in found
    ]  # fmt: skip


def size_samples(found: Sequence[sizes.Size]) -> list[Sample]:
    """A sample of each; what could not be measured at all is none, or it would seem to grow later."""
    return [
        Sample("size", one.full_name, one.bytes, None, {"note": one.note} if one.note else {})
        for one in found
        if one.bytes or not one.note
    ]


def disks_markdown(report: DiskReport) -> str:
    """A table of the disks with their plots below it."""
    rows = [
        [
            ", ".join(f"{v.name} (`{v.path}`)" for v in j.filesystem.volumes), f"{j.filesystem.percent:.1f} %", j.level,
            size(j.filesystem.free), f"{size(j.trend.per_day)} a day" if j.trend else "not known yet",
            f"{j.days:.1f}" if j.days is not None else "—",
        ]
        for j in report.disks
    ]  # fmt: skip
    drawn = [j.plot for j in report.disks if j.plot]
    return "\n\n".join(
        [_table(["folders on the disk", "used", "level", "free", "trend", "days to full"], rows), *drawn]
    )


def growers_markdown(found: Sequence[Growth]) -> str:
    rows = [[f"`{g.name}`", size(g.bytes), f"{g.days:.1f}", size(g.now)] for g in found]
    return _table(["what", "grown by", "in days", "now"], rows)


def sizes_markdown(found: Sequence[sizes.Size]) -> str:
    """The largest first, 100 at most."""
    rows = [
        [one.what, f"`{one.name}`", size(one.bytes), one.note] for one in sorted(found, key=lambda s: -s.bytes)[:100]
    ]
    return _table(["kind", "name", "size", "note"], rows)


def memory_markdown(found: Sequence[Memory]) -> str:
    rows = [
        [m.service, size(m.used), size(m.limit) if m.limit else "—", f"{m.percent:.0f} %" if m.limit else "—", m.source]
        for m in found
    ]
    return _table(["service", "used", "limit", "", "where the limit comes from"], rows)


def connections_markdown(found: Sequence[Connections]) -> str:
    rows = [[c.server, "**all**", "", f"{c.used} of {c.total or 'an unknown number'}"] for c in found]
    rows += [[c.server, who, state, str(number)] for c in found for who, state, number in c.by]
    return _table(["server", "by", "state", "connections"], rows)


def _lately(past: Sequence[samples.Point], days: float) -> list[samples.Point]:
    """The part that the trend is judged from; a disk that was made larger or smaller begins anew there."""
    recent = [point for point in past if point[0] > past[-1][0] - timedelta(days=days)]
    return [point for point in recent if point[2] == recent[-1][2]]


def _table(head: list[str], rows: list[list[str]]) -> str:
    if not rows:
        return "none"
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)])
