"""The sensor that looks after Dagster: facts from the instance, conditions over them, messages to the webhook.

It runs in the daemon, and with a stopped daemon it is silent. So the same facts are in `/api/metrics/operations`, and
deploy/prometheus/rules.yml says there what is said here.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import msgspec

# Private doors of Dagster, and the only ones that the platform imports (embedded/definitions.py runs one more, the daemon):
# tests/unit/orchestration/test_private_dagster.py tells when an upgrade has moved one.
# Whether a schedule or a sensor has been switched off, and its ticks: `DagsterInstance.all_instigator_state` gives values of
# these types, and dagster exports neither them nor another way to ask.
from dagster._core.scheduler.instigation import InstigatorState, InstigatorType

# When a schedule was last due, by the very rules (summer time, 29 February) by which the daemon starts it. Dagster exports
# nothing that reads a cron expression.
from dagster._utils.schedules import reverse_cron_string_iterator

from orchestration.alarms import conditions, delivery
from orchestration.alarms.alert import Alert, State, deliver
from orchestration.alarms.conditions import Clockwork, EndedRun, FailedCheck, Heartbeat, RunInProgress, Watch
from orchestration.schedules import IN_PROGRESS
from zhiyun.logs import without_secrets
from zhiyun.settings import AlertSettings, load

_GAP = timedelta(minutes=5)  # so long without a look: the daemon was down
_RUNS = 50
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_NAME = "operations_alarms"


class Cursor(msgspec.Struct):
    """What the sensor keeps between two looks."""

    awake: datetime  # since when there was no gap between looks
    last: datetime
    state: State


@dg.sensor(
    name=_NAME,
    minimum_interval_seconds=load(AlertSettings).interval,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Sends alerts about failed and silent runs, missed ticks, a silent daemon and failing checks (ALERT_WEBHOOK_URL).",
)
def operations_alarms(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Looks at Dagster's own state and tells what is wrong: once when it begins, seldom while it stays, once when it ends."""
    settings, now = load(AlertSettings), datetime.now(UTC)
    cursor = _cursor(context.cursor, now)
    alerts = find(
        context.instance, _repository(context), settings, Watch(cursor.state.watching_since, cursor.awake), now
    )
    state, problem = deliver(
        alerts, cursor.state, delivery.webhook(settings), now, timedelta(hours=settings.repeat_hours)
    )
    cursor.state = state
    if problem:
        context.log.error(problem)
    context.update_cursor(msgspec.json.encode(cursor).decode())
    if not alerts:
        return dg.SkipReason("nothing is wrong")
    where = "" if settings.webhook_url else " (nobody is told: ALERT_WEBHOOK_URL is not set)"
    return dg.SkipReason(without_secrets(f"{len(alerts)} alerts{where}: " + "; ".join(a.title for a in alerts)))


def find(
    instance: dg.DagsterInstance,
    repository: dg.RepositoryDefinition,
    settings: AlertSettings,
    watch: Watch,
    now: datetime,
) -> list[Alert]:
    """Everything that is wrong now."""
    return [
        *conditions.of_runs(_ended(instance, repository)),
        *conditions.of_silence(_in_progress(instance), settings, now),
        *conditions.of_clockwork(_clockwork(instance, repository, now), settings, watch, now),
        *conditions.of_heartbeats(_heartbeats(instance), settings, watch, now),
        *conditions.of_checks(_failed_checks(instance, repository)),
    ]


def _cursor(text: str | None, now: datetime) -> Cursor:
    try:
        cursor = msgspec.json.decode(text or "", type=Cursor)
    except msgspec.DecodeError:  # the first look, or one of another version
        return Cursor(now, now, State(now))
    if now - cursor.last > _GAP:
        cursor.awake = now
    cursor.last = now
    return cursor


def _repository(context: dg.SensorEvaluationContext) -> dg.RepositoryDefinition:
    assert context.repository_def is not None
    return context.repository_def


def _ended(instance: dg.DagsterInstance, repository: dg.RepositoryDefinition) -> Iterator[EndedRun]:
    """Of each job the last run that ended. Materializations by hand have somebody who looks at them."""
    for job in sorted(repository.job_names):
        if job.startswith("__"):
            continue
        records = instance.get_run_records(dg.RunsFilter(job_name=job, statuses=_ENDED), limit=1)
        if not records or records[0].dagster_run.status is dg.DagsterRunStatus.CANCELED:
            continue
        run = records[0].dagster_run
        failed = run.status is dg.DagsterRunStatus.FAILURE
        yield EndedRun(
            job, run.run_id, failed, _moment(records[0].end_time, records[0].update_timestamp),
            _reason(instance, run.run_id) if failed else "", run.tags.get("dagster/will_retry") == "true",
        )  # fmt: skip


def _in_progress(instance: dg.DagsterInstance) -> Iterator[RunInProgress]:
    for record in instance.get_run_records(dg.RunsFilter(statuses=IN_PROGRESS), limit=_RUNS):
        run = record.dagster_run
        events = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
        heard = _moment(events[0].timestamp, record.update_timestamp) if events else _utc(record.update_timestamp)
        yield RunInProgress(run.job_name, run.run_id, run.status is dg.DagsterRunStatus.QUEUED, heard)


def _clockwork(instance: dg.DagsterInstance, repository: dg.RepositoryDefinition, now: datetime) -> Iterator[Clockwork]:
    states: dict[tuple[InstigatorType, str], InstigatorState] = {}
    for state in instance.all_instigator_state():
        if state.origin.repository_origin.repository_name == repository.name:
            states[state.instigator_type, state.instigator_name] = state
    for schedule in repository.schedule_defs:
        crons = [schedule.cron_schedule] if isinstance(schedule.cron_schedule, str) else list(schedule.cron_schedule)
        due = [
            _utc(next(reverse_cron_string_iterator(now.timestamp(), cron, schedule.execution_timezone)))
            for cron in crons
        ]
        should = schedule.default_status is dg.DefaultScheduleStatus.RUNNING
        yield _of_state(
            instance, schedule.name, "schedule", should, states.get((InstigatorType.SCHEDULE, schedule.name)), max(due)
        )
    for sensor in repository.sensor_defs:
        if sensor.name == _NAME:  # if it were off, it would not be here to say so
            continue
        # A sensor's ticks come when they can; so long without any, it does not run.
        expected = now - timedelta(seconds=4 * (sensor.minimum_interval_seconds or 30)) - timedelta(minutes=10)
        should = sensor.default_status is dg.DefaultSensorStatus.RUNNING
        yield _of_state(
            instance, sensor.name, "sensor", should, states.get((InstigatorType.SENSOR, sensor.name)), expected
        )


def _of_state(
    instance: dg.DagsterInstance, name: str, kind: str, should: bool, state: InstigatorState | None, expected: datetime
) -> Clockwork:
    runs = should if state is None else state.is_running
    last, failed = None, ""
    if state is not None:
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
        if ticks:
            last = _moment(ticks[0].timestamp)
            if ticks[0].is_failure:
                failed = _first_line(ticks[0].error.message if ticks[0].error else "no reason was recorded")
    return Clockwork(name, "schedule" if kind == "schedule" else "sensor", should, runs, expected, last, failed)


def _heartbeats(instance: dg.DagsterInstance) -> list[Heartbeat]:
    beats = instance.get_daemon_heartbeats()
    needed = instance.get_required_daemon_types()
    return [Heartbeat(name, _moment(beats[name].timestamp) if name in beats else None) for name in needed]


def _failed_checks(instance: dg.DagsterInstance, repository: dg.RepositoryDefinition) -> Iterator[FailedCheck]:
    keys = sorted(repository.asset_graph.asset_check_keys)
    records = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    for key, record in sorted(records.items()):
        event = record.event.dagster_event if record.event else None
        # Until a check has been evaluated its event says that it is planned.
        if event is None or event.event_type is not dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            continue
        evaluation = event.asset_check_evaluation_data
        if evaluation.passed:
            continue
        grave = evaluation.severity is dg.AssetCheckSeverity.ERROR
        text = evaluation.description or f"See asset {key.asset_key.to_user_string()} in the Dagster UI."
        yield FailedCheck(key.asset_key.to_user_string(), key.name, grave, text)


def _reason(instance: dg.DagsterInstance, run_id: str) -> str:
    """The sentence of the step that failed, else of the run."""
    kinds = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
    for record in instance.get_records_for_run(run_id, of_type=kinds, limit=5).records:
        event = record.event_log_entry.dagster_event
        if event is None:
            continue
        if event.is_step_failure:
            data = event.step_failure_data
            said = data.user_failure_data.description if data.user_failure_data else None
            return _first_line(said or (data.error.message if data.error else "") or event.message or "")
        return _first_line(event.message or "")
    return ""


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0][:500]


def _moment(stamp: float | None, otherwise: datetime | None = None) -> datetime:
    if stamp is None:
        assert otherwise is not None
        return _utc(otherwise)
    return datetime.fromtimestamp(stamp, UTC)


def _utc(moment: datetime) -> datetime:
    """Dagster's storage gives UTC, with or without saying so."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
