"""Jobs, and when the clock starts them."""

from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo

import dagster as dg

from zhiyun.settings import BackupSettings, KnowledgeSettings, MaintenanceSettings, load

# A run whose worker and code server were both killed would stay "started" for ever without a limit.
_MAX_RUNTIME = str(6 * 3600)
_SHORT_RUNTIME = str(15 * 60)

ingestion = dg.define_asset_job(
    "ingestion",
    selection=dg.AssetSelection.groups("knowledge"),
    description="Take in the sources and publish what changed as the next release.",
    tags={"dagster/max_runtime": _MAX_RUNTIME},
)

nightly_backup = dg.define_asset_job(
    "nightly_backup",
    selection=dg.AssetSelection.assets(
        "postgres_backup", "qdrant_backup", "file_store_backup", "recovery_point", "backup_retention"
    ),
    description="Make the night's recovery point, copy it, verify it, and expire what is too old.",
    tags={"dagster/max_runtime": _MAX_RUNTIME},
)
weekly_drill = dg.define_asset_job(
    "weekly_drill",
    selection=dg.AssetSelection.assets("restore_drill"),
    description="Restore the newest verified recovery point for trial, compare it, and remove it again.",
    tags={"dagster/max_runtime": _MAX_RUNTIME},
)

nightly_maintenance = dg.define_asset_job(
    "nightly_maintenance",
    selection=dg.AssetSelection.assets(
        "vacuum_analyze", "index_report", "slow_query_report", "collection_maintenance", "dagster_history"
    ),
    description="Vacuum what needs it, report on indexes and statements, tidy collections and Dagster's history.",
    tags={"dagster/max_runtime": _MAX_RUNTIME},
)
weekly_index_maintenance = dg.define_asset_job(
    "weekly_index_maintenance",
    selection=dg.AssetSelection.assets("index_maintenance"),
    description="Rebuild bloated indexes concurrently, drop what broken-off rebuilds left, check some for damage.",
    tags={"dagster/max_runtime": _MAX_RUNTIME},
)
database_health_check = dg.define_asset_job(
    "database_health_check",
    selection=dg.AssetSelection.assets("database_health"),
    description="Look at wraparound, idle transactions, blocked queries, slots, sequences and connections.",
    tags={"dagster/max_runtime": _SHORT_RUNTIME},
)
capacity_check = dg.define_asset_job(
    "capacity_check",
    selection=dg.AssetSelection.assets("disk_capacity", "memory_capacity", "connection_capacity"),
    description="Measure disks, memory and connections against their limits.",
    tags={"dagster/max_runtime": _SHORT_RUNTIME},
)
storage_survey = dg.define_asset_job(
    "storage_survey",
    selection=dg.AssetSelection.assets("storage_sizes"),
    description="Measure databases, tables, collections, buckets and folders.",
    tags={"dagster/max_runtime": _MAX_RUNTIME},
)

IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def in_progress(instance: dg.DagsterInstance, job: str, **tags: str) -> str | None:
    """The id of a run of this job (with these tags) that has not ended, if there is one."""
    wanted = dg.RunsFilter(job_name=job, statuses=IN_PROGRESS, tags=tags)
    runs = instance.get_run_records(wanted, limit=1)
    return runs[0].dagster_run.run_id if runs else None


def ingestion_in_progress(instance: dg.DagsterInstance) -> str | None:
    """The id of an ingestion that has not ended, if there is one."""
    return in_progress(instance, ingestion.name)


@dg.schedule(
    job=ingestion,
    cron_schedule=load(KnowledgeSettings).cron,
    execution_timezone="Asia/Shanghai",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def hourly_ingestion(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Takes in the sources by the clock, whatever the sensor saw: it also tries again what failed."""
    running = ingestion_in_progress(context.instance)
    if running:
        return dg.SkipReason(f"ingestion {running} has not ended")
    return dg.RunRequest()


@dg.schedule(
    job=nightly_backup,
    cron_schedule=load(BackupSettings).cron,
    execution_timezone=load(BackupSettings).timezone,
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def nightly_recovery_point(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Makes the night's recovery point. A night that was missed altogether is not made up for: its data is gone."""
    zone = ZoneInfo(load(BackupSettings).timezone)
    night = context.scheduled_execution_time.astimezone(zone).date().isoformat()
    if night != datetime.now(zone).date().isoformat():
        return dg.SkipReason(f"the night of {night} is over; the next point is made by the clock, or with backup_now")
    running = in_progress(context.instance, nightly_backup.name, **{"dagster/partition": night})
    if running:
        return dg.SkipReason(f"backup {running} of {night} has not ended")
    return dg.RunRequest(run_key=night, partition_key=night)


@dg.schedule(
    job=weekly_drill,
    cron_schedule=load(BackupSettings).drill_cron,
    execution_timezone=load(BackupSettings).timezone,
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def weekly_restore_drill(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Restores the newest verified point for trial."""
    running = in_progress(context.instance, weekly_drill.name)
    if running:
        return dg.SkipReason(f"drill {running} has not ended")
    return dg.RunRequest()


def _unless_in_progress(job: str) -> Callable[[dg.ScheduleEvaluationContext], dg.RunRequest | dg.SkipReason]:
    """Runs the job, unless its last run has not ended."""

    def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        running = in_progress(context.instance, job)
        return dg.SkipReason(f"{job} {running} has not ended") if running else dg.RunRequest()

    return schedule


MAINTENANCE = [
    dg.schedule(
        job=job,
        name=f"{job.name}_schedule",
        cron_schedule=cron,
        execution_timezone=load(BackupSettings).timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=job.description,
    )(_unless_in_progress(job.name))
    for job, cron in (
        (nightly_maintenance, load(MaintenanceSettings).nightly_cron),
        (weekly_index_maintenance, load(MaintenanceSettings).weekly_cron),
        (database_health_check, load(MaintenanceSettings).health_cron),
        (capacity_check, "*/15 * * * *"),
        (storage_survey, "20 * * * *"),
    )
]
