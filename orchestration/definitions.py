"""The Dagster code location: the one place where everything is put together."""

import dagster as dg

from orchestration import schedules, sensors
from orchestration.ingestion import assets as ingestion
from orchestration.resources import Stores

defs = dg.Definitions(
    assets=dg.load_assets_from_modules([ingestion]),
    jobs=[schedules.ingestion],
    schedules=[schedules.hourly_ingestion],
    sensors=[sensors.source_changes],
    resources={"stores": Stores()},
    # One process for a run: half the time of a process for each step, and what a step loaded serves the next.
    executor=dg.in_process_executor,
)
