"""The Dagster code location: the one place where everything is put together."""

import dagster as dg

from orchestration import schedules, sensors
from orchestration.alarms.sensors import operations_alarms
from orchestration.backups import assets as backups
from orchestration.backups import by_hand
from orchestration.capacity import assets as capacity
from orchestration.ingestion import assets as ingestion
from orchestration.maintenance import assets as maintenance
from orchestration.resources import Stores

defs = dg.Definitions(
    assets=dg.load_assets_from_modules([ingestion, backups, maintenance, capacity]),
    asset_checks=dg.load_asset_checks_from_modules([backups]),
    jobs=[
        schedules.ingestion,
        schedules.nightly_backup,
        schedules.weekly_drill,
        schedules.nightly_maintenance,
        schedules.weekly_index_maintenance,
        schedules.database_health_check,
        schedules.capacity_check,
        schedules.storage_survey,
        *by_hand.JOBS,
    ],
    schedules=[
        schedules.hourly_ingestion,
        schedules.nightly_recovery_point,
        schedules.weekly_restore_drill,
        *schedules.MAINTENANCE,
    ],
    sensors=[sensors.source_changes, sensors.recovery_point_alerts, operations_alarms],
    resources={"stores": Stores(), "backup_lock": backups.BackupLock()},
    # One process for a run: half the time of a process for each step, and what a step loaded serves the next.
    executor=dg.in_process_executor,
)
