"""The report on indexes: unused, superfluous and missing ones, each with the DDL that would mend it. Nothing is dropped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from knowledge.database import Connection
from orchestration.maintenance.indexes import baselines
from orchestration.maintenance.indexes.catalog import Index, read_indexes
from orchestration.maintenance.indexes.declared import DECLARED, Declared, create_declared, parse
from orchestration.maintenance.indexes.duplicates import Finding, drop_ddl, duplicates
from orchestration.maintenance.indexes.missing import foreign_keys, sequential_scans, served_keys
from orchestration.maintenance.session import Say, Stop, facts, never, one, require, silent
from zhiyun.settings import MaintenanceSettings

_WORTH_SAYING = 1 << 20  # bytes: an unused index below it costs nothing that matters


@dataclass(frozen=True, slots=True)
class IndexReport:
    """`window_days`: how long scans have been counted for."""

    indexes: int
    window_days: float
    findings: tuple[Finding, ...]
    declared: tuple[Declared, ...]
    notes: tuple[str, ...]

    def of(self, *kinds: str) -> list[Finding]:
        return [finding for finding in self.findings if finding.kind in kinds]


def index_report(
    connection: Connection, settings: MaintenanceSettings, *, stop: Stop = never, say: Say = silent
) -> IndexReport:
    """Look at all indexes; create declared ones that are missing, concurrently.

    `connection` is in autocommit mode with a lock_timeout (session.session). Raises MaintenanceError for a wrong
    MAINTENANCE_DECLARED_INDEXES.
    """
    require(connection, "operations.index_baselines")
    wanted = (*DECLARED, *parse(settings.declared_indexes))
    can = facts(connection)
    declared = create_declared(connection, can, settings, wanted, stop=stop, say=say)
    indexes = read_indexes(connection, can)
    baselines.meet(connection, indexes)

    def quote(name: str) -> str:
        return one(connection, "SELECT quote_ident(%s)", (name,))

    window = counting_days(connection)
    notes: list[str] = []
    unused: list[Finding] = []
    if window < settings.unused_days:
        notes.append(
            f"Unused indexes are not told yet: scans have been counted for {window:.1f} days, and "
            f"MAINTENANCE_UNUSED_DAYS={settings.unused_days:g}."
        )
    else:
        ours = {f"{index.schema}.{index.name}" for index in wanted}
        unused = _unused(connection, [i for i in indexes if i.title not in ours], settings.unused_days, quote)
        if one(connection, "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_type = 'physical')"):
            notes.append(
                "There is a replica: scans on it are not counted here, so look there before dropping anything."
            )
    if "pg_stat_statements" not in can.extensions:
        notes.append(
            "Columns for sequentially read tables cannot be told: the extension pg_stat_statements is missing."
        )
    rows = settings.large_table_rows
    findings = [
        *unused,
        *duplicates(indexes, quote),
        *foreign_keys(connection, indexes, rows, quote),
        *sequential_scans(connection, can, indexes, rows, quote),
    ]
    return IndexReport(len(indexes), window, tuple(findings), tuple(declared), tuple(notes))


def counting_days(connection: Connection) -> float:
    """For how many days scans have been counted: since a reset of this database's counters, or of the server's, which is
    what a crash does to them all."""
    return float(
        one(
            connection,
            """
            SELECT extract(epoch FROM now() - greatest(
                     (SELECT stats_reset FROM pg_stat_database WHERE datname = current_database()),
                     (SELECT stats_reset FROM pg_stat_wal))) / 86400
            """,
        )
        or 0
    )


def _unused(connection: Connection, indexes: list[Index], days: float, quote: Callable[[str], str]) -> list[Finding]:
    known = baselines.read(connection)
    needed = served_keys(connection, indexes)
    found: list[Finding] = []
    for index in indexes:
        baseline = known.get(index.title)
        if (
            (index.scans and (index.idle_days is None or index.idle_days < max(1.0, days)))
            or index.constrains
            or index.referenced
            or index.clustered
            or index.partition
            or not index.valid
            or index.oid in needed
            or index.size < _WORTH_SAYING
            or index.schema == "pg_toast"
            or baseline is None
            or baseline.days_known < days
        ):
            continue
        idle = index.idle_days if index.scans and index.idle_days else baseline.days_known
        why = f"no scan in {idle:.0f} days"
        found.append(Finding("unused", index.table, index.title, index.size, why, drop_ddl(index, quote)))
    return sorted(found, key=lambda finding: -finding.size)
