"""The whole stack as a user has it: `zhiyun up` and what may happen to it. The tests build on each other, in order."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from playwright.sync_api import expect, sync_playwright

from embedded.services import ports
from embedded.services.processes import runs, session_members
from tests.support.browser import BROWSER_ARGUMENTS, find_browser
from tests.support.stack import Stack, environment
from tests.support.waiting import until
from zhiyun.repository import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def taken() -> Iterator[socket.socket]:
    """Something that listens on the chat's default port."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(("127.0.0.1", 8000))
            server.listen()
        except OSError:
            pass  # somebody else has it, which serves as well
        yield server


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, taken: socket.socket) -> Iterator[Stack]:
    one = Stack(tmp_path_factory.mktemp("stack") / "home")
    one.up()
    yield one
    if one.process and one.process.poll() is None:
        one.process.terminate()
        one.process.wait(60)


def test_it_prints_where_everything_is_and_everything_is_there(stack: Stack) -> None:
    urls = stack.layout.state()["urls"]
    assert httpx.get(f"{urls['chat']}/api/health/live").is_success
    assert httpx.get(f"{urls['dagster']}/server_info").is_success
    assert httpx.get(f"{urls['qdrant']}/readyz").is_success
    for url in urls.values():
        assert url in stack.said()
    assert "ingestion is done" in stack.said()


def test_a_default_port_that_is_taken_moves_on_and_that_is_said(stack: Stack) -> None:
    assert not stack.layout.state()["urls"]["chat"].endswith(":8000")
    assert "port 8000 is taken: SERVING_PORT is" in stack.said()


def test_the_example_question_is_answered(stack: Stack) -> None:
    chat = stack.layout.state()["urls"]["chat"]
    answer = httpx.post(f"{chat}/api/chat", json={"message": "发票怎么开？"}, timeout=60)
    assert answer.status_code == 200
    assert answer.json()["citations"]


def golden() -> list[dict[str, str]]:
    """Questions that a release must answer whatever else changes: codes, numbers and names, typed as customers do."""
    lines = (REPOSITORY / "sample" / "golden.jsonl").read_text().splitlines()
    questions = [json.loads(line) for line in lines]
    return [question for question in questions if question["kind"] == "code"][::5]


def test_golden_questions_are_answered_with_the_right_document(stack: Stack) -> None:
    chat = stack.layout.state()["urls"]["chat"]
    questions = golden()
    assert len(questions) >= 5
    for question in questions:
        answer = httpx.post(f"{chat}/api/chat", json={"message": question["question"]}, timeout=60).json()
        assert answer["citations"], question
        assert answer["citations"][0]["uri"].endswith(question["document"]), question
        source = httpx.get(chat + answer["citations"][0]["url"], timeout=60).json()
        assert source["text"].startswith(answer["citations"][0]["text"].removesuffix("…"))


def test_golden_questions_are_answered_on_the_page(stack: Stack) -> None:
    browser_path = find_browser()
    if browser_path is None:
        pytest.skip("no Chromium on this machine")
    chat = stack.layout.state()["urls"]["chat"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=BROWSER_ARGUMENTS)
        page = browser.new_context(locale="zh-CN").new_page()
        for question in golden():
            page.goto(chat)
            page.fill("#question", question["question"])
            page.press("#question", "Enter")
            page.wait_for_selector(".theirs:last-child:not([aria-busy])")
            page.locator(".chip").first.click()
            expect(page.locator("#source")).to_contain_text(question["document"])
            expect(page.locator("#source mark")).not_to_be_empty()
        browser.close()


def test_the_ingestion_is_seen_in_the_dagster_ui(stack: Stack) -> None:
    dagster = stack.layout.state()["urls"]["dagster"]
    query = "{ runsOrError(limit: 5) { ... on Runs { results { jobName status } } } }"
    runs = httpx.post(f"{dagster}/graphql", json={"query": query}, timeout=60).json()["data"]["runsOrError"]["results"]
    assert {"jobName": "ingestion", "status": "SUCCESS"} in runs


def test_the_manuals_curl_line_reaches_the_vector_store(stack: Stack) -> None:
    qdrant = stack.layout.state()["urls"]["qdrant"]
    found = httpx.get(f"{qdrant}/collections/knowledge").json()["result"]
    assert found["points_count"] > 100
    assert found["config"]["metadata"]["live_release"] == 1


def test_status_says_that_all_is_well(stack: Stack) -> None:
    until(lambda: stack.run("status").returncode == 0)
    told = stack.status()
    assert told["healthy"]
    assert told["release"] == 1
    assert {service["name"] for service in told["services"]} == {
        "postgres", "redis", "qdrant", "code-server", "webserver", "daemon", "serving",
    }  # fmt: skip
    started = stack.layout.state()["started"]
    assert started["ready_seconds"] > 0
    assert all(started["services"].values())


def test_a_second_up_is_refused_with_one_line(stack: Stack) -> None:
    refused = stack.run("up")
    assert refused.returncode == 1
    assert str(stack.layout.state()["pid"]) in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert stack.status()["running"]


def test_what_is_killed_comes_back_and_that_is_said(stack: Stack) -> None:
    before = stack.pid("serving")
    os.kill(before, signal.SIGKILL)
    assert "started again in" in stack.wait_said("serving died by SIGKILL")
    stack.wait_said("serving is ready again")
    assert stack.pid("serving") != before
    assert stack.status()["healthy"]


def test_the_next_up_recovers_from_a_kill_with_all_data_and_no_orphans(stack: Stack) -> None:
    assert stack.process is not None
    ingesting = subprocess.Popen(
        [sys.executable, "-m", "console", "ingest"],
        cwd=REPOSITORY,
        env=environment(stack.home),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert ingesting.stdout is not None
    assert "ingestion is run" in ingesting.stdout.readline()
    stack.process.kill()
    stack.process.wait()
    ingesting.kill()
    ingesting.communicate()
    earlier = stack.layout.leaders()
    assert stack.run("status").returncode == 3
    stack.up()
    # The ingestion, and whatever else the clock had started.
    assert re.search(r"cancelled \d+ Dagster runs", stack.said())
    assert [process for process in session_members(earlier) if runs(process)] == []
    assert stack.status()["release"] == 1


def test_down_stops_everything_and_postgresql_cleanly(stack: Stack) -> None:
    assert stack.run("down").returncode == 0
    assert stack.process is not None
    assert stack.process.wait(10) == 0
    assert stack.orphans() == []
    assert "database system is shut down" in (stack.home / "logs" / "postgres.log").read_text().splitlines()[-1]
    assert "stopped (" in stack.said()
    assert stack.run("status").returncode == 3
    doctor = stack.run("doctor", "processes", "--json")
    assert doctor.returncode == 2
    assert json.loads(doctor.stdout)["findings"][0]["code"] == "processes.not_running"


def test_a_port_that_was_set_and_is_taken_is_one_line(stack: Stack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = subprocess.run(
            [sys.executable, "-m", "console", "up"],
            cwd=REPOSITORY,
            env=environment(stack.home, SERVING_PORT=str(port)),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert refused.returncode == 1
    last = refused.stdout.splitlines()[-1]
    assert f"SERVING_PORT={port}" in last
    assert stack.orphans() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user; as another user, all tests show it")
def test_it_starts_for_a_user_who_is_not_root(tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    only = "-all,+dac_read_search"  # the interpreter may lie below /root
    other = [
        "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
        f"--inh-caps={only}", f"--ambient-caps={only}", f"--bounding-set={only}", "--",
    ]  # fmt: skip
    stack = Stack(folder / "home")
    free = {name: str(ports.free_port()) for name in ("SERVING_PORT", "DAGSTER_PORT", "QDRANT_PORT")}
    stack.up(*other, HOME=str(folder), **free)
    try:
        assert stack.process is not None
        assert psutil.Process(stack.pid("postgres")).uids().effective == 65534
        assert "ingestion is done" in stack.said()
        stack.process.send_signal(signal.SIGINT)
        assert stack.process.wait(20) == 0
        assert stack.orphans() == []
    finally:
        if stack.process:
            stack.process.kill()
