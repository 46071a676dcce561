"""The shipped rules, scrape configuration and dashboard, with the real promtool and the real Prometheus."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from psycopg.types.json import Json

from embedded.services import ports, postgres
from serving.operations.capacity_figures import capacity_figures
from serving.operations.dagster_figures import dagster_figures
from tests.support.chat_service import Published, running_chat
from tests.support.waiting import until
from zhiyun.repository import REPOSITORY
from zhiyun.settings import AlertSettings, CapacitySettings

pytestmark = pytest.mark.slow

pytest_plugins = ("tests.support.chat_service",)

DEPLOY = REPOSITORY / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yml"
DASHBOARD = DEPLOY / "grafana" / "zhiyun.json"
# What the backups' part of /api/metrics/operations gives.
BACKUPS = {
    "zhiyun_operations_up", "zhiyun_recovery_points", "zhiyun_recovery_point_newest_verified_timestamp_seconds",
    "zhiyun_recovery_point_rpo_limit_seconds", "zhiyun_restore_drill_passed", "zhiyun_restore_drill_timestamp_seconds",
}  # fmt: skip


def program(name: str) -> str:
    found = shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed (Debian: prometheus), so the shipped rules are not tried here")
    return found


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_and_the_example_can_be_loaded() -> None:
    run(program("promtool"), "check", "rules", str(RULES))
    run(program("promtool"), "check", "config", str(DEPLOY / "prometheus" / "prometheus.yml"))


def test_each_rule_fires_when_it_must_and_not_when_it_must_not() -> None:
    tests = sorted((REPOSITORY / "tests" / "deploy").glob("prometheus_rules*_test.yml"))
    run(program("promtool"), "test", "rules", *map(str, tests))
    fired = {
        case["alertname"]
        for file in tests
        for group in yaml.safe_load(file.read_text())["tests"]
        for case in group["alert_rule_test"]
        if case["exp_alerts"]
    }
    rules = {rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}
    assert fired == rules


class Families:
    """Metrics that were made already, as a collector."""

    def __init__(self, families: list[Any]) -> None:
        self.families = families

    def collect(self) -> list[Any]:
        return self.families


async def exposed(database_url: str, dagster_url: str) -> str:
    """What capacity and Dagster have in /api/metrics/operations."""
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        families = await capacity_figures(connection, CapacitySettings())
    registry = CollectorRegistry()
    registry.register(Families([*families, *await dagster_figures(dagster_url, AlertSettings())]))
    return generate_latest(registry).decode()


@pytest.fixture
def sampled(migrated_database_url: str) -> str:
    """A database with a sample of each kind."""
    rows: list[tuple[str, str, int, int | None, dict[str, Any]]] = [
        ("disk", "logs", 71, 100, {"percent": 71.0, "filesystem": "database, logs", "days_to_full": 3.5, "level": "warning"}),
        ("memory", "redis", 900, 1000, {}), ("memory", "qdrant", 900, None, {}),
        ("connections", "PostgreSQL", 20, 197, {}), ("size", "table knowledge.vectors", 12345, None, {}),
    ]  # fmt: skip
    with psycopg.connect(migrated_database_url) as connection:
        for kind, name, used, total, facts in rows:
            for older in (1, 0):
                connection.execute(
                    "INSERT INTO operations.capacity_samples (taken_at, kind, name, used, total, facts) "
                    "VALUES (now() - make_interval(hours => %s), %s, %s, %s, %s, %s)",
                    (older, kind, name, used - older, total, Json(facts)),
                )
    return migrated_database_url


async def test_capacitys_figures_are_those_of_the_last_samples(sampled: str) -> None:
    text = await exposed(sampled, "postgresql://zhiyun@127.0.0.1:9/dagster")
    for line in (
        'zhiyun_disk_used_ratio{filesystem="database, logs",volume="logs"} 0.71',
        'zhiyun_disk_free_bytes{filesystem="database, logs",volume="logs"} 29.0',
        'zhiyun_disk_days_to_full{filesystem="database, logs",volume="logs"} 3.5',
        'zhiyun_memory_used_bytes{service="redis"} 900.0',
        'zhiyun_memory_limit_bytes{service="redis"} 1000.0',
        'zhiyun_connections_limit{server="PostgreSQL"} 197.0',
        'zhiyun_storage_bytes{name="table knowledge.vectors"} 12345.0',
        'zhiyun_capacity_limit_ratio{kind="disk",level="critical"} 0.95',
        "zhiyun_disk_days_to_full_limit 14.0",
        "zhiyun_dagster_up 0.0",
    ):
        assert line in text.splitlines()
    assert 'zhiyun_memory_limit_bytes{service="qdrant"}' not in text


@pytest.fixture
def dagster_url(postgres_cluster: postgres.Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database that Dagster has made its tables in."""
    import dagster as dg

    url = postgres_cluster.url("dagster")
    monkeypatch.setenv("DAGSTER_DATABASE_URL", url)
    (tmp_path / "dagster.yaml").write_text((REPOSITORY / "dagster.yaml").read_text())
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        instance.get_runs(limit=1)
    return url


def test_rules_and_dashboard_ask_for_nothing_that_nobody_tells(
    sampled: str, dagster_url: str, published: Published, redis_url: str, tmp_path: Path
) -> None:
    with running_chat(tmp_path, {**published.environment, "REDIS_URL": redis_url}) as chat:
        until(lambda: chat.health()["status"] == "healthy")
        chat.ask("国内信用卡退款多久到账？")
        texts = httpx.get(f"{chat.url}/api/metrics", timeout=10).text
        texts += asyncio.run(exposed(sampled, dagster_url))
    told = set(re.findall(r"^# TYPE (\S+)", texts, re.MULTILINE)) | BACKUPS | {"up"}
    told |= {f"{name}{ending}" for name in told for ending in ("_bucket", "_count", "_sum")}
    expressions = [rule["expr"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    expressions += [
        target["expr"] for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel.get("targets", [])
    ]
    for expression in expressions:
        bare = re.sub(r'\{[^}]*\}|by \([^)]*\)|"[^"]*"|\[[^]]*\]', " ", expression)
        names = {
            word for word in re.findall(r"[a-z_][a-z0-9_:]*", bare)
            if not re.search(rf"\b{word}\s*\(", expression) and word not in {"by", "and", "or", "offset", "d", "sum", "max", "min"}
        }  # fmt: skip
        assert names <= told, expression


@contextmanager
def running_prometheus(folder: Path, chat: str) -> Iterator[str]:
    """The shipped configuration with the chat's address in it, and looks that come more often."""
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": [chat.removeprefix("http://")]}]
        if job["job_name"] == "zhiyun-operations":
            job |= {"scrape_interval": "1s", "scrape_timeout": "1s"}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(RULES, folder / "rules.yml")
    port = ports.free_port()
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [program("prometheus"), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address=127.0.0.1:{port}"],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        until(lambda: _answers(f"http://127.0.0.1:{port}/-/ready"), 60)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def test_a_real_prometheus_scrapes_the_chat_and_sees_it_stop(
    published: Published, redis_url: str, tmp_path: Path
) -> None:
    program("prometheus")
    with (
        running_chat(tmp_path / "chat", {**published.environment, "REDIS_URL": redis_url}) as chat,
        running_prometheus(tmp_path, chat.url) as prometheus,
    ):
        until(lambda: chat.health()["status"] == "healthy")
        chat.ask("国内信用卡退款多久到账？")

        def value(query: str) -> float | None:
            found = httpx.get(f"{prometheus}/api/v1/query", params={"query": query}).json()["data"]["result"]
            return float(found[0]["value"][1]) if found else None

        def alert(name: str) -> str | None:
            alerts = httpx.get(f"{prometheus}/api/v1/alerts").json()["data"]["alerts"]
            return next((a["state"] for a in alerts if a["labels"]["alertname"] == name), None)

        until(lambda: value('up{job="zhiyun-chat"}') == 1)
        until(lambda: value('sum(http_requests_total{path="/api/chat", status="200"})'))
        until(lambda: value("sum(message_processing_time_count)"))
        until(lambda: value("sum(database_pool_max)"))
        groups = until(
            lambda: (
                (g := httpx.get(f"{prometheus}/api/v1/rules").json()["data"]["groups"])
                and all(rule["health"] == "ok" for group in g for rule in group["rules"])
                and g
            )
        )
        assert sum(len(group["rules"]) for group in groups) == 26
        assert alert("ChatDown") is None
        chat.process.terminate()
        until(lambda: alert("ChatDown") in ("pending", "firing"))


def test_the_dashboard_has_every_panel_in_its_place() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        assert panel["type"] == "row" or panel["targets"]


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.TransportError:
        return False
