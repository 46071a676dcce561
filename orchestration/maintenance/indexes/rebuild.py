"""Index maintenance: leftovers dropped, bloated indexes rebuilt without stopping anybody, damage looked for.

Bloat is suspected by a stored baseline, which costs nothing, and confirmed by reading the index. `REINDEX INDEX
CONCURRENTLY` blocks no reader and no writer; it waits for transactions older than itself, so it does not begin where
one has been open for long, and gives up after MAINTENANCE_SNAPSHOT_TIMEOUT.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import psycopg
from psycopg import sql

from knowledge.database import Connection
from orchestration.maintenance.indexes import baselines, bloat
from orchestration.maintenance.indexes.catalog import Index, read_indexes
from orchestration.maintenance.indexes.concurrently import attempt, obstacle
from orchestration.maintenance.indexes.damage import Checked, check
from orchestration.maintenance.indexes.leftovers import Invalid, drop_leftovers
from orchestration.maintenance.session import Budget, Facts, Say, Stop, facts, never, reason, require, silent
from zhiyun.settings import MaintenanceSettings

_MIB = 1 << 20
_SUSPICION = 0.1  # a baseline is a ratio of two estimates: what comes so near to the limit is measured
_PACE = 10 * _MIB  # bytes of table and index that a rebuild surely reads and writes in a second


@dataclass(frozen=True, slots=True)
class Rebuild:
    """One index that was looked at. `outcome` is fine, rebuilt, left (another time), skipped or failed."""

    name: str
    table: str
    method: str
    size: int
    rows: float
    bloat: float | None  # share that would go; None where nothing is known
    known_from: str  # measured, estimated, lists estimated, baseline
    outcome: str
    note: str = ""
    size_after: int | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class IndexMaintenance:
    """What was found and done in one run. `small` counts indexes below MAINTENANCE_INDEX_MIN_MB."""

    rebuilds: tuple[Rebuild, ...]
    small: int
    invalid: tuple[Invalid, ...]
    damage: Checked
    notes: tuple[str, ...]
    stopped: bool

    def count(self, outcome: str) -> int:
        return sum(rebuild.outcome == outcome for rebuild in self.rebuilds)


def index_maintenance(
    connection: Connection,
    settings: MaintenanceSettings,
    *,
    free_bytes: int | None,
    stop: Stop = never,
    say: Say = silent,
) -> IndexMaintenance:
    """Drop leftovers, rebuild what is bloated within the budgets of time and disk, and check for damage.

    `free_bytes` is what is free on the database's disk; None where that cannot be known. `connection` is in autocommit
    mode with a lock_timeout (session.session).
    """
    require(connection, "operations.index_baselines")
    can = facts(connection)
    notes: list[str] = []
    if free_bytes is None:
        free_bytes = int(settings.unseen_disk_mb * _MIB)
        notes.append(
            f"The free space of the database's disk cannot be seen from here; {settings.unseen_disk_mb:g} MiB are taken to "
            "be free (MAINTENANCE_UNSEEN_DISK_MB)."
        )
    if not bloat.may_measure(connection, can):
        notes.append(
            "Bloat is estimated from statistics: the extension pgstattuple is missing, or the role may not use it "
            "(CREATE EXTENSION pgstattuple; GRANT pg_stat_scan_tables)."
        )
    invalid = drop_leftovers(connection, read_indexes(connection, can), settings.snapshot_timeout, stop=stop, say=say)
    indexes = read_indexes(connection, can)
    baselines.meet(connection, indexes)
    known = baselines.read(connection)
    valid = [index for index in indexes if index.valid]
    large = [index for index in valid if index.size >= max(1, settings.index_min_mb * _MIB)]
    judged = [_judge(connection, can, index, known.get(index.title), settings.index_bloat) for index in large]
    work = _Work(connection, can, settings, Budget(settings.index_minutes * 60), free_bytes, stop, say)
    rebuilds: list[Rebuild] = []
    # What frees most comes first.
    for index, found in sorted(zip(large, judged, strict=True), key=lambda pair: -(pair[1].bloat or 0) * pair[0].size):
        wanted = found.outcome == "fine" and found.bloat is not None and found.bloat >= settings.index_bloat
        rebuilds.append(work.rebuild(index, found) if wanted else found)
    damage = check(connection, can, read_indexes(connection, can), settings.amcheck_minutes * 60, stop=stop)
    return IndexMaintenance(
        tuple(rebuilds), len(valid) - len(large), tuple(invalid), damage, tuple(notes), stopped=stop()
    )


def _judge(
    connection: Connection, can: Facts, index: Index, baseline: baselines.Baseline | None, limit: float
) -> Rebuild:
    """Say how bloated an index is, by its baseline as long as that is not suspicious."""
    found = Rebuild(index.title, index.table, index.method, index.size, index.rows, None, "", "fine")
    by_baseline = baseline.bloat(index) if baseline else None
    if by_baseline and by_baseline.share < limit - _SUSPICION:
        return replace(found, bloat=by_baseline.share, known_from="baseline")
    if by_baseline and baseline and baseline.source == "rebuilt" and index.method != "btree":
        return replace(found, bloat=by_baseline.share, known_from="baseline")
    try:
        known = bloat.best(connection, can, index)
    except psycopg.Error as error:
        return replace(found, outcome="skipped", note=f"it could not be read: {reason(error)}")
    if known and known.method != "measured" and by_baseline and baseline and baseline.source == "rebuilt":
        # A rebuild has shown what it takes; statistics only guess at it.
        known = by_baseline
    if known is None:
        if by_baseline:
            return replace(found, bloat=by_baseline.share, known_from="baseline")
        if index.rows > 0:
            baselines.record(connection, index, index.size / index.rows, "first seen")
        return replace(found, note="nothing to compare with yet: its size now is the baseline")
    if index.rows > 0 and known.method != "baseline":
        source = "measured" if known.method == "measured" else "estimated"
        baselines.record(connection, index, known.rebuilt / index.rows, source)
    return replace(found, bloat=known.share, known_from=known.method)


@dataclass(slots=True)
class _Work:
    connection: Connection
    can: Facts
    settings: MaintenanceSettings
    budget: Budget
    free: int
    stop: Stop
    say: Say

    def rebuild(self, index: Index, found: Rebuild) -> Rebuild:
        """REINDEX INDEX CONCURRENTLY, unless something speaks against it."""
        against = self._against(index)
        if against:
            return replace(found, outcome=against[0], note=against[1])
        self.say(f"rebuilding {index.title}: {100 * (found.bloat or 0):.0f} % would go ({found.known_from})")
        started = time.monotonic()
        statement = sql.SQL("REINDEX INDEX CONCURRENTLY {}").format(index.identifier)
        wait, seconds = self.settings.snapshot_timeout, self.budget.left
        failed = attempt(self.connection, statement, wait, stop=self.stop, seconds=seconds)
        if failed:
            why = "a transaction did not end within MAINTENANCE_SNAPSHOT_TIMEOUT" if failed.waited else failed.why
            return replace(found, outcome=failed.outcome, note=f"{why}; the index is as it was{self._tidy(index)}")
        seconds = time.monotonic() - started
        new = next((i for i in read_indexes(self.connection, self.can) if i.title == index.title and i.valid), None)
        if new is None:
            return replace(found, outcome="rebuilt", note="it was dropped meanwhile", seconds=seconds)
        if new.rows > 0:
            baselines.record(self.connection, new, new.size / new.rows, "rebuilt")
        return replace(found, outcome="rebuilt", size_after=new.size, seconds=seconds)

    def _against(self, index: Index) -> tuple[str, str] | None:
        if not index.permitted:
            return "skipped", f"role {self.can.role} does not own it; set DATABASE_ADMIN_URL to a role that does"
        if index.exclusion:
            return (
                "skipped",
                "an exclusion constraint's index cannot be rebuilt concurrently; REINDEX INDEX stops writers",
            )
        if self.stop():
            return "left", "stopped before its turn"
        if 2 * index.size > self.free:
            return "left", f"twice its size is to be free, and {self.free // _MIB} MiB are"
        expected = (index.size + index.table_pages * 8192) / _PACE
        if expected > self.budget.left:
            return (
                "left",
                f"it may take {expected:.0f} s, and {self.budget.left:.0f} s are left of MAINTENANCE_INDEX_MINUTES",
            )
        against = obstacle(self.connection, self.settings.snapshot_timeout, index.table_oid)
        return ("left", against) if against else None

    def _tidy(self, index: Index) -> str:
        """Drop what the interrupted rebuild left at once, if that is quickly done."""
        left = [i for i in read_indexes(self.connection, self.can) if i.table_oid == index.table_oid]
        found = drop_leftovers(self.connection, left, self.settings.lock_timeout)
        return "" if all(i.outcome == "dropped" for i in found) else ", and the next run drops what the attempt left"
