"""A recovery point each night: database, vectors, files, manifest, verification, retention; and a trial restore a week."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import dagster as dg

from knowledge.database import AnotherWriter, DatabaseUnavailable
from objects.store import ObjectStoreError
from orchestration.backups.attempt import Attempt, attempt
from orchestration.backups.expected import EXPECTED
from orchestration.backups.installation import Installation, installation
from orchestration.backups.making import steps
from orchestration.backups.making.verify import verify_everywhere
from orchestration.backups.points import expiry, overview, record
from orchestration.backups.progress import Logged
from orchestration.backups.restore.drill import drill, record_drill
from orchestration.backups.units import size_text
from orchestration.exclusion import Busy, exclusive
from orchestration.failures import sentences
from orchestration.partitions import nights

# What may be gone in some minutes. A damaged point or a wrong setting is not.
_PASSING = (Busy, AnotherWriter, DatabaseUnavailable, ObjectStoreError)


class BackupLock(dg.ConfigurableResource["BackupLock"]):
    """Held for the whole run, so that no restore and no maintenance gets between its steps."""

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Generator["BackupLock"]:
        say = context.log.info if context.log else print
        inst = installation(Logged(say))
        night = context.run.tags.get("dagster/partition", "") if context.run else ""
        with exclusive(inst.database.admin, f"backup of {night}".strip(), wait=steps.WAIT, say=say):
            yield self


_COMMON: dict[str, Any] = {
    "group_name": "backups",
    "owners": ["team:platform"],
    "partitions_def": nights,
    # A store that is away for a moment at half past two need not cost the night.
    "retry_policy": dg.RetryPolicy(max_retries=2, delay=60),
}


def _installation(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> Installation:
    return installation(Logged(context.log.info))


def _attempt(context: dg.AssetExecutionContext) -> Attempt:
    # A run that is started again from its failed step goes on with what the first one has made.
    return attempt(context.partition_key, context.run.root_run_id or context.run.run_id, "schedule")


@contextmanager
def _told(context: dg.AssetExecutionContext, inst: Installation) -> Generator[None]:
    """Failures become one sentence in the UI, and in the store, where the list of points and the alerts find them."""
    with sentences(*EXPECTED, retry=_PASSING), steps.failure_noted(inst, context.partition_key):
        yield


@dg.asset(**_COMMON, kinds={"postgres"}, pool="database")
def postgres_backup(context: dg.AssetExecutionContext, backup_lock: BackupLock) -> dg.MaterializeResult:
    """Dumps of the platform's database and Dagster's, each of one moment, with their row counts; the server's roles."""
    inst = _installation(context)
    with _told(context, inst):
        part = steps.capture_postgres(inst, _attempt(context))
    return dg.MaterializeResult(
        metadata={
            "stored": size_text(sum(one.dump.size for one in part.databases)),
            "dumped": size_text(sum(one.dump.raw_size for one in part.databases)),
            "server": part.databases[0].server_version,
            "tables": dg.MetadataValue.md(overview.tables_markdown(part)),
        }
    )


@dg.asset(**_COMMON, kinds={"qdrant"}, pool="knowledge", deps=[postgres_backup])
def qdrant_backup(context: dg.AssetExecutionContext, backup_lock: BackupLock) -> dg.MaterializeResult:
    """A snapshot of every collection, copied off the node, with aliases and metadata."""
    inst = _installation(context)
    with _told(context, inst):
        part = steps.capture_vectors(inst, _attempt(context))
    return dg.MaterializeResult(
        metadata={
            "stored": size_text(sum(one.snapshot.size for one in part.collections)),
            "points": sum(one.points for one in part.collections),
            "live_release": part.live_release or 0,
            "collections": dg.MetadataValue.md(overview.collections_markdown(part)),
        }
    )


@dg.asset(**_COMMON, kinds={"file"}, deps=[qdrant_backup])
def file_store_backup(context: dg.AssetExecutionContext, backup_lock: BackupLock) -> dg.MaterializeResult:
    """The file store: what has changed since the point before, by content, and an inventory of all."""
    inst = _installation(context)
    with _told(context, inst):
        part = steps.capture_files(inst, _attempt(context))
    for problem in part.problems:
        context.log.warning(problem)
    return dg.MaterializeResult(
        metadata={
            "files": part.files, "bytes": size_text(part.bytes), "added": part.added, "added_bytes": size_text(part.added_bytes),
            "problems": dg.MetadataValue.md("\n".join(f"- {problem}" for problem in part.problems) or "none"),
        }
    )  # fmt: skip


@dg.asset(**_COMMON, kinds={"file"}, deps=[postgres_backup, qdrant_backup, file_store_backup])
def recovery_point(context: dg.AssetExecutionContext, backup_lock: BackupLock) -> dg.MaterializeResult:
    """The manifest, which makes a recovery point of the night's parts, and its copies in the other stores."""
    inst = _installation(context)
    with _told(context, inst):
        manifest = steps.commit(inst, _attempt(context))
        problems = [f"{store.name}: {why}" for store, why in steps.copy_everywhere(inst, manifest).items() if why]
    for problem in problems:
        context.log.error(problem)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(manifest.id),
        metadata={
            "size": size_text(manifest.size), "stores": [store.name for store in inst.stores], "copies_missing": problems,
            "encrypted": bool(manifest.key), "seconds": round(sum(manifest.seconds.values()), 1),
            "points": dg.MetadataValue.md(overview.points_markdown(inst)),
        },
    )  # fmt: skip


@dg.asset_check(asset="recovery_point", blocking=True, pool="database")
def recovery_point_verified(context: dg.AssetCheckExecutionContext, backup_lock: BackupLock) -> dg.AssetCheckResult:
    """The night's point was read back whole from every store: hashes, and each dump to its end by pg_restore."""
    with sentences(*EXPECTED):
        inst = _installation(context)
        outcomes = verify_everywhere(inst, context.run.tags["dagster/partition"])
        record.bring_up_to_date(inst)
    bad = {name: why for name, why in outcomes.items() if why}
    return dg.AssetCheckResult(
        passed=not bad,
        description="; ".join(f"{name}: {why}" for name, why in bad.items()) or "read back whole from every store",
        metadata={"stores": sorted(outcomes), "points": dg.MetadataValue.md(overview.points_markdown(inst))},
    )


@dg.asset(**_COMMON, kinds={"file"}, deps=[recovery_point], pool="database")
def backup_retention(context: dg.AssetExecutionContext, backup_lock: BackupLock) -> dg.MaterializeResult:
    """Points that have expired are deleted, and what tries and trial restores that were broken off have left."""
    with sentences(*EXPECTED, retry=_PASSING):
        inst = _installation(context)
        reports = expiry.prune(inst, dry_run=False)
        record.bring_up_to_date(inst)
    for report in reports:
        context.log.info(report.as_text())
    return dg.MaterializeResult(
        metadata={
            **{report.store: dg.MetadataValue.md(report.as_markdown()) for report in reports},
            "expired": sum(len(report.expired) for report in reports),
            "points": dg.MetadataValue.md(overview.points_markdown(inst)),
        }
    )


@dg.asset(
    group_name="backups",
    owners=["team:platform"],
    kinds={"postgres", "qdrant"},
    pool="database",
    check_specs=[
        dg.AssetCheckSpec(
            "restores_whole", asset="restore_drill", description="The newest verified point restores whole."
        ),
        dg.AssetCheckSpec(
            "rto", asset="restore_drill", description="The trial took no longer than BACKUP_RTO_MINUTES."
        ),
        dg.AssetCheckSpec("rpo", asset="restore_drill", description="The point is no older than BACKUP_RPO_HOURS."),
    ],
)
def restore_drill(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """The newest verified point restored beside everything, compared, asked the golden questions, timed, removed again."""
    with sentences(*EXPECTED):
        inst = _installation(context)
        done = drill(inst)
        record_drill(inst, done)
    for line in done.lines():
        context.log.info(line)
    minutes, hours = done.rto_seconds / 60, done.rpo_seconds / 3600
    golden = done.golden
    return dg.MaterializeResult(
        metadata={
            "point": done.point, "rto_seconds": round(done.rto_seconds, 1), "rpo_hours": round(hours, 2),
            "rows": done.rows, "points": done.points, "files": done.files,
            "golden_questions": golden.questions if golden else 0, "golden_same": golden.same_first if golden else 0,
            "steps": dg.MetadataValue.md("\n".join(f"- {line}" for line in done.timing.lines())),
            "problems": dg.MetadataValue.md("\n".join(f"- {line}" for line in done.problems) or "none"),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="restores_whole", passed=not done.problems, description=" ".join(done.problems) or None
            ),
            dg.AssetCheckResult(
                check_name="rto", passed=minutes <= inst.backup.rto_minutes, severity=dg.AssetCheckSeverity.WARN,
                metadata={"minutes": round(minutes, 2), "limit_minutes": inst.backup.rto_minutes},
            ),
            dg.AssetCheckResult(
                check_name="rpo", passed=hours <= inst.backup.rpo_hours,
                metadata={"hours": round(hours, 2), "limit_hours": inst.backup.rpo_hours},
            ),
        ],
    )  # fmt: skip
