"""Maintenance as assets: each calls one function of this slice, and shows what it found and did."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import dagster as dg

from knowledge.database import Connection, DatabaseUnavailable
from knowledge.releases.vector_store import VectorStoreUnavailable
from orchestration.backups.scratch import SCRATCH
from orchestration.exclusion import Busy, exclusive
from orchestration.failures import sentences
from orchestration.maintenance import disk, history, markdown, presentation
from orchestration.maintenance.collections import collection_maintenance as maintain_collections
from orchestration.maintenance.health import database_health as look_at_database
from orchestration.maintenance.indexes.rebuild import index_maintenance as maintain_indexes
from orchestration.maintenance.indexes.report import index_report as report_on_indexes
from orchestration.maintenance.session import MaintenanceError, session
from orchestration.maintenance.statements.slow import slow_query_report as report_on_statements
from orchestration.maintenance.vacuum import vacuum_analyze as vacuum
from zhiyun.settings import (
    BackupSettings,
    DatabaseSettings,
    MaintenanceSettings,
    QdrantSettings,
    SettingsError,
    StackSettings,
    load,
)

_WAIT = 2 * 3600.0  # seconds for a backup or a restore that is under way
_EXPECTED = (MaintenanceError, DatabaseUnavailable, VectorStoreUnavailable, Busy, SettingsError)
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_DATABASE: dict[str, Any] = {
    "group_name": "maintenance", "owners": ["team:platform"], "kinds": {"postgres"}, "pool": "database",
}  # fmt: skip


@contextmanager
def _alone(what: str, say: Callable[[str], None]) -> Generator[Connection]:
    """A maintenance session, while no backup, restore or other maintenance goes on."""
    url = load(DatabaseSettings).admin
    with (
        exclusive(url, what, wait=_WAIT, say=say),
        session(url, lock_timeout=load(MaintenanceSettings).lock_timeout, purpose=f"zhiyun {what}") as connection,
    ):
        yield connection


def _check(asset: str, name: str, about: str) -> list[dg.AssetCheckSpec]:
    return [dg.AssetCheckSpec(name, asset=asset, description=about)]


def _result(name: str, *, passed: bool, error: bool = False, **metadata: Any) -> dg.AssetCheckResult:
    severity = dg.AssetCheckSeverity.ERROR if error else dg.AssetCheckSeverity.WARN
    return dg.AssetCheckResult(check_name=name, passed=passed, severity=severity, metadata=metadata)


@dg.asset(**_DATABASE)
def vacuum_analyze(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """Tables of the platform's and of Dagster's database that need it, vacuumed and analyzed without stopping anybody."""
    settings = load(MaintenanceSettings)
    with sentences(*_EXPECTED), _alone("vacuum", context.log.info) as connection:
        done = vacuum(connection, settings, say=context.log.info)
        other, note = None, ""
        try:
            url = load(StackSettings).dagster_database_url
            with session(url, lock_timeout=settings.lock_timeout, purpose="zhiyun vacuum") as dagster:
                other = vacuum(dagster, settings, say=context.log.info)
        except DatabaseUnavailable:
            note = "Dagster's own database (DAGSTER_DATABASE_URL) cannot be reached from here; it was left as it is."
    notes = [*done.notes, *(other.notes if other else ()), *filter(None, [note])]
    for line in notes:
        context.log.warning(line)
    return dg.MaterializeResult(
        metadata={
            "tables": done.looked_at, "done": done.count("done"), "skipped": done.count("skipped"),
            "failed": done.count("failed"), "left": done.count("left"), "treated": dg.MetadataValue.md(presentation.vacuumed(done)),
            "dagster_treated": dg.MetadataValue.md(presentation.vacuumed(other) if other else "none"),
            "notes": dg.MetadataValue.md(markdown.bullets(notes)),
        }
    )  # fmt: skip


@dg.asset(
    **_DATABASE,
    check_specs=_check("index_maintenance", "indexes_sound", "No index is damaged, invalid, or could not be rebuilt."),
)
def index_maintenance(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """Bloated indexes rebuilt concurrently, leftovers of interrupted rebuilds dropped, indexes checked for damage."""
    with sentences(*_EXPECTED), _alone("index maintenance", context.log.info) as connection:
        done = maintain_indexes(
            connection, load(MaintenanceSettings), free_bytes=disk.free_bytes(connection), say=context.log.info
        )
    for line in (*done.notes, *done.damage.notes):
        context.log.warning(line)
    open_ends = [invalid for invalid in done.invalid if invalid.outcome != "dropped"]
    return dg.MaterializeResult(
        metadata={
            "indexes": len(done.rebuilds) + done.small, "rebuilt": done.count("rebuilt"), "left": done.count("left"),
            "failed": done.count("failed"), "checked_for_damage": done.damage.checked, "not_checked": done.damage.left,
            "bloat": dg.MetadataValue.md(presentation.rebuilds(done)), "invalid": dg.MetadataValue.md(presentation.invalid(done)),
            "damaged": dg.MetadataValue.md(presentation.damaged(done)),
            "notes": dg.MetadataValue.md(markdown.bullets([*done.notes, *done.damage.notes])),
        },
        check_results=[
            _result(
                "indexes_sound", passed=not (done.damage.damaged or open_ends or done.count("failed")),
                error=bool(done.damage.damaged), damaged=dg.MetadataValue.md(presentation.damaged(done)),
                invalid=dg.MetadataValue.md(presentation.invalid(done)),
            )
        ],
    )  # fmt: skip


@dg.asset(**_DATABASE)
def index_report(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """Unused, superfluous and missing indexes, each with the DDL that would mend it; declared ones created."""
    with sentences(*_EXPECTED), _alone("index report", context.log.info) as connection:
        found = report_on_indexes(connection, load(MaintenanceSettings), say=context.log.info)
    return dg.MaterializeResult(
        metadata={
            "indexes": found.indexes, "counting_days": round(found.window_days, 1),
            **{kind: len(found.of(kind)) for kind in ("unused", "duplicate", "prefix", "missing")},
            "findings": dg.MetadataValue.md(presentation.findings(found)), "declared": dg.MetadataValue.md(presentation.declared(found)),
            "notes": dg.MetadataValue.md(markdown.bullets(found.notes)),
        }
    )  # fmt: skip


@dg.asset(
    **_DATABASE,
    check_specs=_check("slow_query_report", "no_slow_queries", "No statement is slow, or much slower than last week."),
)
def slow_query_report(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """Statements that took the time since the last report, with their plans, and those slower than a week ago."""
    settings = load(MaintenanceSettings)
    with sentences(*_EXPECTED), session(load(DatabaseSettings).admin, lock_timeout=settings.lock_timeout) as connection:
        found = report_on_statements(connection, settings, say=context.log.info)
    slower = dg.MetadataValue.md(presentation.regressions(found))
    return dg.MaterializeResult(
        metadata={
            "available": found.available, "since": found.since.isoformat() if found.since else "the server's own beginning",
            "seconds": round(found.total_ms / 1000, 3), "slow": len(found.slow), "regressed": len(found.regressions),
            "statements": dg.MetadataValue.md(presentation.statements(found)), "plans": dg.MetadataValue.md(presentation.plans(found)),
            "regressions": slower, "notes": dg.MetadataValue.md(markdown.bullets(found.notes)),
        },
        check_results=[
            _result("no_slow_queries", passed=not (found.slow or found.regressions), slow=len(found.slow), regressions=slower)
        ],
    )  # fmt: skip


# Without a pool: it only reads, and must be seen while a backup or a rebuild goes on.
@dg.asset(
    **{key: value for key, value in _DATABASE.items() if key != "pool"},
    check_specs=_check("database_health", "healthy", "Nothing grows unseen until the database stops."),
)
def database_health(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """Wraparound, idle transactions, blocked statements, replication slots, sequences, connections."""
    settings = load(MaintenanceSettings)
    with sentences(*_EXPECTED), session(load(DatabaseSettings).admin, lock_timeout=settings.lock_timeout) as connection:
        found = look_at_database(connection, settings)
    for finding in found.findings:
        context.log.warning(f"{finding.what}: {finding.where}: {finding.detail}")
    findings = dg.MetadataValue.md(presentation.health(found))
    return dg.MaterializeResult(
        metadata={
            **found.figures, "findings": findings, "connections_by_application": dg.MetadataValue.md(presentation.connections(found)),
            "notes": dg.MetadataValue.md(markdown.bullets(found.notes)),
        },
        check_results=[
            _result("healthy", passed=not found.findings, error=found.worst() == "error", findings=findings)
        ],
    )  # fmt: skip


@dg.asset(
    group_name="maintenance",
    owners=["team:platform"],
    kinds={"qdrant"},
    pool="knowledge",
    check_specs=_check("collection_maintenance", "collections_sound", "Collections are optimized and as recorded."),
)
def collection_maintenance(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """Collections with their optimizer, segments and payload indexes; orphans reported, scratch deleted."""
    with sentences(*_EXPECTED), _alone("collection maintenance", context.log.info) as connection:
        found = maintain_collections(connection, load(QdrantSettings), scratch=(SCRATCH,), say=context.log.info)
    for problem in found.problems:
        context.log.warning(problem)
    problems = dg.MetadataValue.md(markdown.bullets(found.problems))
    return dg.MaterializeResult(
        metadata={
            "collections": dg.MetadataValue.md(presentation.collections(found)), "points": sum(c.points for c in found.collections),
            "retired_points": sum(c.retired for c in found.collections), "orphans": list(found.orphans),
            "orphan_aliases": list(found.orphan_aliases), "scratch_deleted": list(found.deleted), "problems": problems,
        },
        check_results=[
            _result(
                "collections_sound", passed=not (found.problems or found.orphans or found.orphan_aliases),
                error=any(c.status == "red" for c in found.collections), problems=problems, orphans=list(found.orphans),
            )
        ],
    )  # fmt: skip


@dg.asset(group_name="maintenance", owners=["team:platform"], kinds={"dagster"})
def dagster_history(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """Dagster's old runs, events, logs and ticks, deleted; never within the backup window."""
    with sentences(*_EXPECTED):
        settings, backups = load(MaintenanceSettings), load(BackupSettings)
    before = history.limit(settings, backups)
    old = dg.RunsFilter(statuses=_ENDED, updated_before=before)
    done = history.dagster_history(context.instance, settings, before, old, say=context.log.info)
    for problem in done.problems:
        context.log.warning(problem)
    return dg.MaterializeResult(
        metadata={
            "before": done.before.isoformat(), "runs_deleted": done.runs, "runs_kept_for_their_assets": done.kept,
            "more_to_delete": done.left, "ticks_purged_for": done.instigators,
            "problems": dg.MetadataValue.md(markdown.bullets(done.problems)),
        }
    )  # fmt: skip
