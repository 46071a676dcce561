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
def slow(context: dg.AssetExecutionContext) -> None:
    """Does not end, and says all the while that it is at work: it is silent only when it was killed."""
    while True:
        context.log.info("at work")
        time.sleep(3)


fails = dg.define_asset_job("fails", ["measured", "broken"])
sleeps = dg.define_asset_job("sleeps", ["slow"])


# Sensors start the runs at once; a schedule would wait for the next minute.
@dg.sensor(job=fails, minimum_interval_seconds=5, default_status=dg.DefaultSensorStatus.RUNNING)
def failing() -> dg.RunRequest:
    return dg.RunRequest(run_key="once")


@dg.sensor(job=sleeps, minimum_interval_seconds=5, default_status=dg.DefaultSensorStatus.RUNNING)
def sleeping() -> dg.RunRequest:
    return dg.RunRequest(run_key="once")


@dg.schedule(job=fails, cron_schedule="* * * * *", default_status=dg.DefaultScheduleStatus.RUNNING)
def each_minute() -> dg.SkipReason:
    return dg.SkipReason("it is there to be switched off")


defs = dg.Definitions(
    assets=[measured, broken, slow],
    jobs=[fails, sleeps],
    schedules=[each_minute],
    sensors=[operations_alarms, failing, sleeping],
    executor=dg.in_process_executor,
)
