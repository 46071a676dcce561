"""What operators rely on: health, metrics and logs as their manual has them, and a start that fails in one line."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from embedded.services import ports
from tests.support.chat_service import Chat, Published, running_chat
from tests.support.waiting import until
from zhiyun.repository import REPOSITORY

pytest_plugins = ("tests.support.chat_service",)


@pytest.fixture(scope="module")
def two_workers(published: Published, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    environment = {**published.environment, "REDIS_URL": redis_url, "SERVING_WORKERS": "2"}
    with running_chat(tmp_path_factory.mktemp("two"), environment) as chat:
        until(lambda: chat.health()["status"] == "healthy")
        yield chat


def test_health_has_the_manual_s_shape_with_reasons_beside_it(chat: Chat) -> None:
    response = httpx.get(f"{chat.url}/api/health")
    health = response.json()
    assert response.status_code == 200
    assert health["status"] == "healthy"
    assert health["components"] == {
        "database": "healthy", "redis": "healthy", "qdrant": "healthy", "llm": "disabled",
    }  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", health["timestamp"])
    assert health["release"] == 1
    assert health["degradation_level"] == 0
    assert health["details"]["database"]["latency_ms"] > 0
    assert httpx.get(f"{chat.url}/api/health/ready").json() == {"status": "ready"}


def test_metrics_have_the_manual_s_names(chat: Chat) -> None:
    chat.ask("怎么申请退款？")
    text = httpx.get(f"{chat.url}/api/metrics").text
    for name, kind in {
        "http_requests_total": "counter",
        "http_request_duration_seconds": "histogram",
        "active_conversations": "gauge",
        "message_processing_time": "histogram",
        "llm_request_duration": "histogram",
        "embedding_request_duration": "histogram",
        "answers_total": "counter",
        "stored_messages_dropped_total": "counter",
    }.items():
        assert f"# TYPE {name} {kind}" in text
    samples = chat.metrics()
    assert samples["database_pool_max"] == 100
    assert samples["database_pool_min"] == 2
    assert samples["redis_pool_max"] == 50
    assert samples["redis_pool_max_idle"] == 10
    assert samples['answers_total{mode="extractive"}'] >= 1
    assert samples["embedding_request_duration_count"] >= 1
    assert samples["active_conversations"] >= 1


def test_addresses_do_not_multiply_the_metrics(chat: Chat) -> None:
    for number in range(5):
        httpx.get(f"{chat.url}/nowhere/{number}")
        httpx.get(f"{chat.url}/api/passages/00000000-0000-4000-8000-00000000000{number}")
    names = [name for name in chat.metrics() if name.startswith("http_requests_total")]
    assert not any("nowhere" in name or "00000000" in name for name in names)
    assert 'http_requests_total{method="GET",path="unmatched",status="404"}' in names
    assert 'http_requests_total{method="GET",path="/api/passages/{passage_id}",status="404"}' in names


def test_metrics_add_up_over_workers_and_outlive_one(two_workers: Chat) -> None:
    asked = 'http_requests_total{method="POST",path="/api/chat",status="200"}'
    answers = [two_workers.ask("怎么申请退款？") for _ in range(20)]
    assert len({answer["conversation_id"] for answer in answers}) == 20
    for _ in range(4):
        samples = two_workers.metrics()
        assert samples[asked] == 20
        assert samples["message_processing_time_count" + '{mode="extractive"}'] == 20
    until(lambda: two_workers.metrics()["database_pool_max"] == 200)
    [worker, *_] = [
        child
        for child in psutil.Process(two_workers.process.pid).children()
        if "spawn_main" in " ".join(child.cmdline())
    ]
    worker.send_signal(signal.SIGKILL)
    until(lambda: two_workers.metrics()["database_pool_max"] == 200, 60)
    assert two_workers.metrics()[asked] == 20


def test_a_conversation_goes_on_at_another_worker(two_workers: Chat) -> None:
    first = two_workers.ask("标准版每月多少钱？")
    for _ in range(8):
        assert two_workers.ask("怎么申请退款？", first["conversation_id"])["answer"]


def test_each_request_has_one_line_in_the_access_log_without_its_body_or_address(chat: Chat) -> None:
    response = httpx.post(
        f"{chat.url}/api/chat", json={"message": "退款的机密内容"}, headers={"x-request-id": "abc-123"}
    )
    assert response.headers["x-request-id"] == "abc-123"
    conversation = response.json()["conversation_id"]
    httpx.get(f"{chat.url}/api/conversations/{conversation}/messages")
    [line] = [line for line in chat.log("access") if line.get("request_id") == "abc-123"]
    assert line["method"] == "POST"
    assert line["route"] == "/api/chat"
    assert line["status"] == 200
    assert line["client"] == "127.0.0.1"
    assert line["duration_ms"] > 0
    for name in ("app", "access", "error"):
        text = (chat.folder / "logs" / f"{name}.log").read_text()
        assert "机密" not in text
        assert conversation not in text


def test_a_request_id_that_is_not_sane_is_replaced(chat: Chat) -> None:
    for given in ("x" * 200, 'a"b', "a b"):
        answered = httpx.get(f"{chat.url}/api/health/live", headers={"x-request-id": given})
        assert re.fullmatch("[0-9a-f]{32}", answered.headers["x-request-id"])


def test_after_a_rotation_lines_of_all_workers_land_in_the_new_file(two_workers: Chat) -> None:
    folder = two_workers.folder / "logs"
    (folder / "access.log").rename(folder / "access.log.1")
    old = (folder / "access.log.1").read_text()
    for _ in range(10):
        httpx.get(f"{two_workers.url}/api/health/live")
    assert (folder / "access.log.1").read_text() == old
    # A worker writes the line once it has answered.
    until(lambda: sum(line["route"] == "/api/health/live" for line in two_workers.log("access")) >= 10)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("SERVING_PORT", "none"),
        ("DATABASE_URL", "mysql://x"),
        ("LOG_DIR", "/proc/nowhere"),
        ("LLM_BASE_URL", "http://x"),
    ],
)
def test_a_setting_that_cannot_be_used_stops_the_start_with_one_line(setting: str, value: str) -> None:
    free = str(ports.free_port())
    environment = {**os.environ, "SERVING_PORT": free, "LOG_DIR": "/proc/nowhere", setting: value}
    run = subprocess.run(
        [sys.executable, "-m", "serving"], cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 2
    assert len(run.stderr.strip().splitlines()) == 1
    assert (setting if setting != "LLM_BASE_URL" else "LLM_MODEL") in run.stderr


def test_a_port_that_is_taken_stops_the_start_with_one_line(chat: Chat, tmp_path: Path) -> None:
    port = chat.url.rpartition(":")[2]
    run = subprocess.run(
        [sys.executable, "-m", "serving"],
        cwd=REPOSITORY,
        env={**os.environ, "SERVING_PORT": port, "LOG_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 2
    assert f"SERVING_PORT={port}" in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1
