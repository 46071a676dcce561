"""Jobs, and when the clock starts them."""

import dagster as dg

from zhiyun.settings import KnowledgeSettings, load

# A run whose worker and code server were both killed would stay "started" for ever without a limit.
_MAX_RUNTIME = str(6 * 3600)

ingestion = dg.define_asset_job(
    "ingestion",
    selection=dg.AssetSelection.groups("knowledge"),
    description="Take in the sources and publish what changed as the next release.",
    tags={"dagster/max_runtime": _MAX_RUNTIME},
)

IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def ingestion_in_progress(instance: dg.DagsterInstance) -> str | None:
    """The id of an ingestion that has not ended, if there is one."""
    runs = instance.get_run_records(dg.RunsFilter(job_name=ingestion.name, statuses=IN_PROGRESS), limit=1)
    return runs[0].dagster_run.run_id if runs else None


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
