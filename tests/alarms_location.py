"""A small code location whose jobs fail, sleep and fail their checks, with the platform's own alarm sensor."""

import time

import dagster as dg

from orchestration.alarms.sensors import operations_alarms


@dg.asset(check_specs=[dg.AssetCheckSpec("small", asset="measured")])
def measured() -> dg.MaterializeResult:
    """Fails its check, as a warning."""
    check = dg.AssetCheckResult(
        check_name="small", passed=False, severity=dg.AssetCheckSeverity.WARN, description="it is 71 % full"
    )
    return dg.MaterializeResult(check_results=[check])


@dg.asset(deps=[measured])
def broken() -> None:
    """Fails in one sentence."""
    raise dg.Failure(description="DATABASE_URL=postgresql://zhiyun:hunter2@db: the database cannot be reached")


@dg.asset
def slow() -> None:
    """Does not end."""
    time.sleep(3600)


fails = dg.define_asset_job("fails", ["measured", "broken"])
sleeps = dg.define_asset_job("sleeps", ["slow"])


@dg.schedule(job=fails, cron_schedule="* * * * *", default_status=dg.DefaultScheduleStatus.RUNNING)
def each_minute() -> dg.RunRequest:
    return dg.RunRequest()


@dg.schedule(job=sleeps, cron_schedule="* * * * *", default_status=dg.DefaultScheduleStatus.RUNNING)
def sleeping(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    if context.instance.get_runs_count(dg.RunsFilter(job_name="sleeps")):
        return dg.SkipReason("once is enough")
    return dg.RunRequest()


defs = dg.Definitions(
    assets=[measured, broken, slow],
    jobs=[fails, sleeps],
    schedules=[each_minute, sleeping],
    sensors=[operations_alarms],
    executor=dg.in_process_executor,
)
