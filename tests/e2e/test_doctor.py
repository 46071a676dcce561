"""Doctor and the whole stack: services are stopped, killed and kept from starting, and doctor names each. In order."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import pytest

from console.doctor.kinds import Finding
from tests.support.diagnosed import everything
from tests.support.stack import Stack
from tests.support.waiting import until
from zhiyun.repository import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Look: TypeAlias = Callable[..., dict[str, list[Finding]]]


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documents") / "docs"
    shutil.copytree(REPOSITORY / "sample" / "knowledge", folder)
    return folder


@pytest.fixture(scope="module")
def settings(documents: Path) -> dict[str, str]:
    return {
        "KNOWLEDGE_SOURCES": f"docs={documents}",
        "CAPACITY_VOLUMES": "shared=/dev/shm",  # how full this machine's disk is, is not the point
    }


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, settings: dict[str, str]) -> Iterator[Stack]:
    one = Stack(tmp_path_factory.mktemp("doctor") / "home")
    one.up(**settings)
    yield one
    if one.process and one.process.poll() is None:
        one.process.terminate()
        one.wait_ended()


@pytest.fixture
def look(stack: Stack, settings: dict[str, str]) -> Look:
    """What doctor finds, by code."""

    def look(*areas: str, **more: str) -> dict[str, list[Finding]]:
        found: dict[str, list[Finding]] = {}
        for finding in everything(*areas, **{**settings, "ZHIYUN_HOME": str(stack.home), **more}):
            found.setdefault(finding.kind.code, []).append(finding)
        return found

    return look


def words(findings: list[Finding]) -> str:
    """What they say, and what they say to do."""
    return "\n".join(f"{one.says('en')} {one.mend('en')}" for one in findings)


def bad(found: dict[str, list[Finding]]) -> dict[str, str]:
    return {code: words(ones) for code, ones in found.items() if ones[0].severity in ("warning", "error")}


def graphql(stack: Stack, query: str, **variables: Any) -> dict[str, Any]:
    address = stack.layout.state()["urls"]["dagster"]
    answer = httpx.post(f"{address}/graphql", json={"query": query, "variables": variables}, timeout=30)
    return answer.json()["data"]


def test_a_stack_that_is_well_has_nothing_but_the_first_backup_to_make(
    stack: Stack, look: Look, settings: dict[str, str]
) -> None:
    until(lambda: "pipeline.well" in look("pipeline"), 120)  # the daemon's first beat
    done = stack.run("doctor", "--json", **settings)
    told = json.loads(done.stdout)
    found = {one["code"]: one for one in told["findings"]}
    wrong = {code: one for code, one in found.items() if one["severity"] in ("warning", "error")}
    assert wrong.keys() <= {"recovery.no_point", "machine.processor"}, wrong
    for area in ("configuration", "machine", "processes", "database", "redis", "vectors", "pipeline", "chat"):
        assert f"{area}.well" in found
    assert done.returncode == 1
    assert told["status"] == "warning"
    assert told["home"] == str(stack.home)


def test_a_schedule_that_is_switched_off(stack: Stack, look: Look) -> None:
    query = """{ schedulesOrError(repositorySelector: {repositoryLocationName: "zhiyun", repositoryName: "__repository__"}) {
        ... on Schedules { results { name scheduleState { id } } } } }"""
    schedules = graphql(stack, query)["schedulesOrError"]["results"]
    [state] = [one["scheduleState"]["id"] for one in schedules if one["name"] == "nightly_recovery_point"]
    graphql(stack, "mutation Off($id: String!) { stopRunningSchedule(id: $id) { __typename } }", id=state)
    told = words(look("pipeline")["pipeline.switched_off"])
    assert "schedule nightly_recovery_point is switched off" in told
    assert "/automation" in told


def test_the_documents_are_gone_and_the_run_that_needs_them_fails(
    stack: Stack, look: Look, documents: Path, settings: dict[str, str]
) -> None:
    elsewhere = documents.rename(documents.with_name("elsewhere"))
    try:
        assert stack.run("ingest", **settings).returncode == 1
        found = look("pipeline", "machine")
    finally:
        elsewhere.rename(documents)
    assert "job ingestion failed" in words(found["pipeline.job_failed"])
    assert f"KNOWLEDGE_SOURCES: {documents} does not exist" in words(found["machine.folder_missing"])


def test_services_that_hang(stack: Stack, look: Look) -> None:
    """They take connections, and answer none: each is told, whatever the others do."""
    hanging = ("redis", "qdrant", "serving", "postgres", "webserver")
    for service in hanging:
        os.kill(stack.pid(service), signal.SIGSTOP)
    try:
        found = look(QDRANT_TIMEOUT="3")
    finally:
        for service in hanging:
            os.kill(stack.pid(service), signal.SIGCONT)
    for service in hanging:
        assert f"{service} does not answer" in words(found["processes.service_down"])
    codes = {"redis.no_answer", "vectors.no_answer", "chat.down", "database.not_connected", "pipeline.ui_down"}
    assert codes <= found.keys(), bad(found)
    assert not any(code.startswith("doctor.") for code in found), bad(found)


def test_a_service_that_was_killed_is_told_with_how_it_died(stack: Stack, look: Look) -> None:
    os.kill(stack.pid("serving"), signal.SIGKILL)
    told = words(until(lambda: look("processes").get("processes.service_restarted")))
    assert "serving was started again 1 times" in told
    assert "SIGKILL" in told


def test_a_daemon_that_stands_still(stack: Stack, look: Look) -> None:
    os.kill(stack.pid("daemon"), signal.SIGSTOP)
    try:
        # Dagster's daemon beats every half a minute, and later where the machine is busy.
        told = words(until(lambda: look("pipeline", ALERT_HEARTBEAT_MINUTES="0.75").get("pipeline.daemon_silent"), 150))
    finally:
        os.kill(stack.pid("daemon"), signal.SIGCONT)
    assert "no backup tonight" in told


def test_everything_was_killed_at_once(stack: Stack, look: Look) -> None:
    assert stack.process is not None
    stack.process.kill()
    stack.process.wait()
    until(lambda: not stack.layout.is_running())
    found = look()
    assert "it was killed" in words(found["processes.killed"])
    assert "zhiyun up" in words(found["processes.killed"])
    assert "doctor.nothing_to_reach" in found
    others = {"processes.left_over", "recovery.no_point", "machine.processor"}
    assert bad(found).keys() <= {"processes.killed", *others}, bad(found)
    assert stack.run("down").returncode == 0


def _fails_to_start(stack: Stack, *before: str, **settings: str) -> None:
    with pytest.raises(AssertionError):
        stack.up(*before, **settings)
    assert stack.wait_ended() == 1


def test_it_does_not_start_because_a_port_is_taken(stack: Stack, look: Look) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        _fails_to_start(stack, SERVING_PORT=port)
        found = look("processes", SERVING_PORT=port)
    assert f"SERVING_PORT={port}" in words(found["processes.start_failed"])
    assert f"process {os.getpid()}" in words(found["processes.port_taken"])
    assert f"kill {os.getpid()}" in words(found["processes.port_taken"])


def test_it_does_not_start_because_a_service_that_others_need_is_broken(stack: Stack, look: Look) -> None:
    version = stack.home / "postgres" / "data" / "PG_VERSION"
    kept = version.read_text()
    version.write_text("7\n")
    try:
        _fails_to_start(stack)
    finally:
        version.write_text(kept)
    assert "postgres" in words(look("processes")["processes.start_failed"])


def test_it_does_not_start_because_memory_is_short(stack: Stack, look: Look) -> None:
    """Each process may have 300 MB of addresses, which is too little for any service in Python."""
    if not shutil.which("prlimit"):
        pytest.skip("prlimit is not there to limit memory with")
    _fails_to_start(stack, "prlimit", f"--as={300_000_000}")
    assert "no more memory" in words(look("processes")["processes.start_failed"])
