"""A real daemon and code server: what goes wrong in them reaches a real webhook, and a stopped daemon the metrics."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import psutil
import pytest
from psycopg import connect

from embedded.services import ports, postgres, probes
from serving.operations.dagster_figures import dagster_figures
from tests.support.faults.webhook_standin import Webhook, webhook_standin
from tests.support.waiting import until
from zhiyun.repository import REPOSITORY
from zhiyun.settings import AlertSettings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass
class Dagster:
    """A Dagster of the test's own, without a web server."""

    home: Path
    url: str
    port: int
    environment: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]]

    def start(self, name: str) -> None:
        commands = {
            "code": ["dagster", "api", "grpc", "-f", "tests/support/alarms_location.py", "-h", "127.0.0.1", "-p", str(self.port),
                     "--location-name", "zhiyun", "--use-python-environment-entry-point"],
            "daemon": ["dagster._daemon", "run", "-w", str(REPOSITORY / "workspace.yaml")],
        }  # fmt: skip
        with (self.home / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", *commands[name]], cwd=REPOSITORY, env=self.environment, stdout=log, stderr=log
            )
        if name == "code":
            until(probes.grpc(self.port), 90)

    def stop(self, name: str, how: signal.Signals = signal.SIGINT) -> None:
        process = self.processes.pop(name)
        process.send_signal(how)
        process.wait(60)

    @property
    def instance(self) -> dg.DagsterInstance:
        return dg.DagsterInstance.from_config(str(self.home))


@pytest.fixture(scope="module")
def hook() -> Iterator[Webhook]:
    with webhook_standin() as standin:
        yield standin


@pytest.fixture(scope="module")
def dagster(
    postgres_cluster: postgres.Cluster, hook: Webhook, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Dagster]:
    home = tmp_path_factory.mktemp("dagster")
    (home / "dagster.yaml").write_text((REPOSITORY / "dagster.yaml").read_text())
    with connect(postgres_cluster.url("postgres", "postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE alarms OWNER zhiyun")
    port = ports.free_port()
    told = {
        "DAGSTER_HOME": str(home), "DAGSTER_DATABASE_URL": postgres_cluster.url("alarms"), "PYTHONPATH": str(REPOSITORY),
        "DAGSTER_CODE_HOST": "127.0.0.1", "DAGSTER_CODE_PORT": str(port), "ALERT_WEBHOOK_URL": hook.url,
        "ALERT_INTERVAL": "5", "ALERT_SILENT_MINUTES": "0.5",
    }  # fmt: skip
    started = Dagster(home, postgres_cluster.url("alarms"), port, {**os.environ, **told}, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_DATABASE_URL", started.url)
        try:
            started.start("code")
            started.start("daemon")
            yield started
        finally:
            for name in list(started.processes):
                for child in psutil.Process(started.processes[name].pid).children(recursive=True):
                    child.kill()
                started.stop(name, signal.SIGKILL)


def test_a_failed_run_and_a_failed_check_are_told_in_their_own_words(dagster: Dagster, hook: Webhook) -> None:
    until(lambda: {"run/fails", "check/measured/small"} <= set(hook.told("firing")), 180)
    alerts = {alert["key"]: alert for body in list(hook.bodies) for alert in body["alerts"]}
    assert "the database cannot be reached" in alerts["run/fails"]["text"]
    assert "hunter2" not in str(alerts)
    assert alerts["check/measured/small"]["severity"] == "warning"
    assert alerts["check/measured/small"]["text"] == "it is 71 % full"


def test_a_schedule_that_is_switched_off_is_told_and_its_return_too(dagster: Dagster, hook: Webhook) -> None:
    with dagster.instance as instance:
        [state] = [s for s in instance.all_instigator_state() if s.instigator_name == "each_minute"]
        instance.update_instigator_state(state.with_status(_status("STOPPED")))
        until(lambda: "off/each_minute" in hook.told("firing"), 90)
        instance.update_instigator_state(state.with_status(_status("RUNNING")))
    until(lambda: "off/each_minute" in hook.told("resolved"), 90)


def test_a_run_that_was_killed_with_its_code_server_is_told(dagster: Dagster, hook: Webhook) -> None:
    with dagster.instance as instance:
        [run] = until(
            lambda: instance.get_runs(dg.RunsFilter(job_name="sleeps", statuses=[dg.DagsterRunStatus.STARTED])), 150
        )
    code = psutil.Process(dagster.processes["code"].pid)
    for process in [*code.children(recursive=True), code]:
        process.kill()
    dagster.processes.pop("code").wait()
    dagster.start("code")  # as the supervisor does, or Docker
    # Dagster's own monitoring may find it first: then it is a failed run.
    until(lambda: {f"silent/{run.run_id}", "run/sleeps"} & set(hook.told("firing")), 150)


async def test_a_stopped_daemon_is_seen_in_the_metrics(dagster: Dagster) -> None:
    async def figures() -> dict[str, dict[tuple[str, ...], float]]:
        found = await dagster_figures(dagster.url, AlertSettings())
        return {m.name: {tuple(s.labels.values()): s.value for s in m.samples} for m in found}

    before = await figures()
    assert before["zhiyun_dagster_up"] == {(): 1}
    assert before["zhiyun_dagster_job_failed"][("fails",)] == 1
    assert before["zhiyun_dagster_check_failed"]["measured", "small", "warning"] == 1
    assert before["zhiyun_dagster_switched_off"]["each_minute", "schedule"] == 0
    assert time.time() - before["zhiyun_dagster_tick_timestamp_seconds"]["operations_alarms", "sensor"] < 120
    dagster.stop("daemon")
    stopped = time.time()
    last = max((await figures())["zhiyun_dagster_heartbeat_timestamp_seconds"].values())
    assert stopped - 60 < last <= stopped
    until(lambda: time.time() > stopped + 3)
    assert max((await figures())["zhiyun_dagster_heartbeat_timestamp_seconds"].values()) == last


async def test_a_database_that_does_not_answer_is_told_as_such() -> None:
    [up] = await dagster_figures("postgresql://zhiyun@127.0.0.1:9/dagster", AlertSettings())
    assert [sample.value for sample in up.samples] == [0]


def _status(name: str):
    from dagster._core.scheduler.instigation import InstigatorStatus

    return InstigatorStatus(name)
