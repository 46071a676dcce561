"""The assets: what they show, which checks fail when, and that expected failures are one sentence."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from orchestration.exclusion import exclusive
from orchestration.maintenance import assets, history
from tests.integration.orchestration.maintenance.conftest import Site
from zhiyun.settings import BackupSettings, MaintenanceSettings

ALL = [
    assets.vacuum_analyze, assets.index_maintenance, assets.index_report, assets.slow_query_report, assets.database_health,
]  # fmt: skip


@pytest.fixture
def environment(every_site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_ADMIN_URL", every_site.url)
    monkeypatch.setenv("DAGSTER_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    return every_site


def made(result: dg.ExecuteInProcessResult, name: str) -> dict[str, object]:
    [materialization] = result.asset_materializations_for_node(name)
    return {key: value.value for key, value in materialization.metadata.items()}


def checks(result: dg.ExecuteInProcessResult) -> dict[str, tuple[bool, str]]:
    return {c.check_name: (c.passed, c.severity.value) for c in result.get_asset_check_evaluations()}


def test_a_healthy_database_passes_every_check(environment: Site) -> None:
    environment.execute("VACUUM ANALYZE")
    result = dg.materialize(ALL)
    assert result.success
    assert checks(result) == {
        "indexes_sound": (True, "WARN"), "no_slow_queries": (True, "WARN"), "healthy": (True, "WARN"),
    }  # fmt: skip
    assert made(result, "index_report")["findings"] == "none"
    assert "DAGSTER_DATABASE_URL" in str(made(result, "vacuum_analyze")["notes"])
    assert made(result, "database_health")["connections"]


def test_what_is_wrong_fails_its_check_with_its_level(environment: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAINTENANCE_WRAPAROUND_WARN", "1")
    monkeypatch.setenv("MAINTENANCE_SLOW_QUERY_MS", "50")
    environment.execute(
        "CREATE TABLE t (x int)",
        "INSERT INTO t VALUES (1), (1)",
        "SELECT pg_sleep(0.1)",
    )
    with pytest.raises(Exception, match="could not create unique index"):
        environment.execute("CREATE UNIQUE INDEX CONCURRENTLY broken ON t (x)")
    found = checks(dg.materialize(ALL))
    assert found == {
        "indexes_sound": (False, "WARN"), "no_slow_queries": (False, "WARN"), "healthy": (False, "ERROR"),
    }  # fmt: skip


def test_maintenance_does_not_run_beside_a_backup(environment: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "_WAIT", 0.0)
    with exclusive(environment.url, "backup of tonight"):
        result = dg.materialize([assets.vacuum_analyze], raise_on_error=False)
        assert dg.materialize([assets.database_health]).success  # it only looks
    [failure] = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    description = failure.event_specific_data.user_failure_data.description  # type: ignore[union-attr]
    assert description.startswith("The vacuum did not start: zhiyun backup of tonight")


def test_a_database_that_is_away_is_one_sentence(environment: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_ADMIN_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    result = dg.materialize(ALL[-1:], raise_on_error=False)
    [failure] = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    description = failure.event_specific_data.user_failure_data.description  # type: ignore[union-attr]
    assert description.startswith("DATABASE_ADMIN_URL (or DATABASE_URL): the database cannot be reached")


@dg.asset
def thing() -> None: ...


@dg.op
def nothing() -> None: ...


@dg.job
def plain_job() -> None:
    nothing()


@pytest.fixture
def purge(settings: MaintenanceSettings):
    def purge(instance: dg.DagsterInstance, before: datetime, **options: object) -> history.History:
        old = dg.RunsFilter(statuses=assets._ENDED, updated_before=before)
        few = settings.model_copy(update={"history_batch": 2})
        return history.dagster_history(instance, few, before, old, **options)  # type: ignore[arg-type]

    return purge


def test_history_goes_with_its_events_and_logs_and_what_assets_need_stays(purge) -> None:
    with dg.instance_for_test() as instance:
        old = [plain_job.execute_in_process(instance=instance).run_id for _ in range(5)]
        first = dg.materialize([thing], instance=instance).run_id
        last = dg.materialize([thing], instance=instance).run_id
        running = instance.create_run_for_job(plain_job, status=dg.DagsterRunStatus.STARTED).run_id
        key = [old[0], "compute_logs", "nothing"]
        with instance.compute_log_manager.open_log_stream(key, dg_stdout()) as stream:
            stream.write("a line")
        logs = Path(instance.storage_directory()) / old[0]
        assert logs.exists()
        moment = datetime.now(UTC)
        time.sleep(0.01)
        young = plain_job.execute_in_process(instance=instance).run_id
        done = purge(instance, moment)
        assert {run.run_id for run in instance.get_runs()} == {last, running, young}
        assert (done.runs, done.kept, done.left, done.problems) == (6, 1, False, ())
        assert not instance.all_logs(first)
        assert not logs.exists()
        assert instance.get_latest_materialization_event(thing.key) is not None
        assert purge(instance, moment).runs == 0


def dg_stdout():
    from dagster._core.storage.compute_log_manager import ComputeIOType

    return ComputeIOType.STDOUT


def test_purging_history_can_be_stopped_after_any_run(purge) -> None:
    instance = dg.DagsterInstance.ephemeral()
    for _ in range(5):
        plain_job.execute_in_process(instance=instance)
    asked = iter([False, False, False, True])
    done = purge(instance, datetime.now(UTC) + timedelta(seconds=1), stop=lambda: next(asked))
    assert (done.runs, done.stopped, done.left) == (3, True, True)
    assert len(instance.get_runs()) == 2


def test_history_is_never_shorter_than_the_backup_window(settings: MaintenanceSettings) -> None:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    short = settings.model_copy(update={"history_days": 3})
    assert history.limit(short, BackupSettings(retention_days=30), now) == now - timedelta(days=31)
    assert history.limit(settings, BackupSettings(retention_days=30), now) == now - timedelta(days=90)


def test_old_ticks_are_purged(purge) -> None:
    from dagster._core.definitions.run_request import InstigatorType
    from dagster._core.scheduler.instigation import TickData, TickStatus

    with dg.instance_for_test() as instance:
        state = _state(instance)
        for age in (200, 100, 1):
            instance.create_tick(
                TickData(
                    instigator_origin_id=state.instigator_origin_id, selector_id=state.selector_id, instigator_name="nightly",
                    instigator_type=InstigatorType.SCHEDULE, status=TickStatus.SKIPPED,
                    timestamp=(datetime.now(UTC) - timedelta(days=age)).timestamp(),
                )
            )  # fmt: skip
        done = purge(instance, datetime.now(UTC) - timedelta(days=90))
        assert done.instigators == 1
        assert len(instance.get_ticks(state.instigator_origin_id, state.selector_id)) == 1


def _state(instance: dg.DagsterInstance):
    """A schedule's state, as the daemon would record it."""
    from dagster._core.definitions.run_request import InstigatorType
    from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
    from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, ScheduleInstigatorData
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

    target = LoadableTargetOrigin(module_name="nowhere")
    repository = RemoteRepositoryOrigin(InProcessCodeLocationOrigin(target), "__repository__")
    state = InstigatorState(
        RemoteInstigatorOrigin(repository, "nightly"), InstigatorType.SCHEDULE, InstigatorStatus.RUNNING,
        ScheduleInstigatorData("0 0 * * *", datetime.now(UTC).timestamp()),
    )  # fmt: skip
    return instance.add_instigator_state(state)
