"""What starts a run when something happens, and what tells somebody when something does not."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import msgspec

from knowledge.database import DatabaseUnavailable
from knowledge.releases.pending import pending
from knowledge.releases.vector_store import VectorStoreUnavailable
from orchestration.alarms.alert import State, deliver, safe
from orchestration.alarms.delivery import webhook
from orchestration.backups.points.alerts import Night, conditions
from orchestration.backups.points.survey import look, watched_stores
from orchestration.resources import Stores
from orchestration.schedules import ingestion, ingestion_in_progress
from zhiyun.settings import AlertSettings, BackupSettings, KnowledgeSettings, S3Settings, StackSettings, load


@dg.sensor(
    job=ingestion,
    minimum_interval_seconds=load(KnowledgeSettings).sensor_interval,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def source_changes(context: dg.SensorEvaluationContext, stores: Stores) -> dg.RunRequest | dg.SkipReason:
    """Takes in the sources when their files or settings differ from the last scan, and have stood still for one tick.

    Waiting one tick keeps a folder that is being copied from being published half-way. A state of the sources is tried
    once: if its run fails, the next try is the hourly schedule's, or a person's.
    """
    running = ingestion_in_progress(context.instance)
    if running:
        return dg.SkipReason(f"ingestion {running} has not ended")
    try:
        with stores.catalog() as connection, stores.collections() as collections:
            found = pending(connection, collections)
    except (DatabaseUnavailable, VectorStoreUnavailable, ValueError) as error:
        return dg.SkipReason(str(error))
    if not found.needed:
        return dg.SkipReason(found.reason)
    if context.cursor != found.signature:
        context.update_cursor(found.signature)
        return dg.SkipReason(f"{found.reason}; taken in at the next tick if nothing moves until then")
    return dg.RunRequest(run_key=f"{found.signature}/{found.after}", tags={"zhiyun/reason": found.reason})


@dg.sensor(minimum_interval_seconds=300, default_status=dg.DefaultSensorStatus.RUNNING)
def recovery_point_alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Tells ALERT_WEBHOOK_URL what is wrong with the recovery points, and when it is over. Starts no run.

    It looks at the stores, not at runs: a night that Dagster never started is missed as well.
    """
    now, settings = datetime.now(UTC), load(BackupSettings)
    state = _alert_state(context.cursor, now)
    found = look(watched_stores(settings, load(S3Settings), load(StackSettings)))
    alerts = conditions(found, now, settings, expected_nights(settings, now), state.watching_since)
    telling = load(AlertSettings)
    state, failed = deliver(alerts, state, webhook(telling), now, timedelta(hours=telling.repeat_hours))
    context.update_cursor(msgspec.json.encode(state).decode())
    said = [f"{alert.severity}: {alert.title}. {alert.text}" for alert in map(safe, alerts)]
    if alerts and not telling.webhook_url:
        said.append("Nobody is told, since ALERT_WEBHOOK_URL is not set.")
    return dg.SkipReason(
        "\n".join([*(said or ["All is well with the recovery points."]), *([failed] if failed else [])])
    )


def expected_nights(settings: BackupSettings, now: datetime, days: int = 14) -> list[Night]:
    """The nights of the last days that BACKUP_CRON asked for, the oldest first; of several times in one, the first."""
    ticks = dg.TimeWindowPartitionsDefinition(
        start=now - timedelta(days=days),
        cron_schedule=settings.cron,
        timezone=settings.timezone,
        fmt="%Y-%m-%dT%H:%M:%S%z",
        end_offset=1,
    )
    nights: dict[str, Night] = {}
    for key in ticks.get_partition_keys(current_time=now):
        due = datetime.fromisoformat(key)
        if due <= now:
            nights.setdefault(due.date().isoformat(), Night(due.date().isoformat(), due))
    return list(nights.values())


def _alert_state(cursor: str | None, now: datetime) -> State:
    try:
        return msgspec.json.decode(cursor or "", type=State)
    except msgspec.DecodeError:
        return State(watching_since=now)
