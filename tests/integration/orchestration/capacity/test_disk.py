"""A disk that is really filled: each level is told, ingestion stops before the chat suffers, and all recovers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import psycopg
import pytest
from psycopg.types.json import Json

from orchestration.capacity import disk
from orchestration.capacity.assets import disk_capacity
from orchestration.capacity.guard import NoRoom, room_to_work
from tests.support.chat_service import Published, running_chat
from tests.support.faults.small_disk import SmallDisk, small_disk
from tests.support.knowledge_base import KnowledgeBase, failures
from tests.support.waiting import until
from zhiyun.settings import CapacitySettings

pytest_plugins = ("tests.support.chat_service",)

QUESTION = "国内信用卡退款多久到账？"


@pytest.fixture
def full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 40) as mounted:
        monkeypatch.setenv("CAPACITY_VOLUMES", f"logs={mounted.path}")
        yield mounted


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {evaluation.check_name: evaluation for evaluation in result.get_asset_check_evaluations()}


@pytest.mark.parametrize(
    ("percent", "level", "severity"),
    [(50, "ok", None), (71, "warning", "WARN"), (86, "serious", "ERROR"), (96, "critical", "ERROR")],
)
def test_each_level_of_the_manual_is_told_with_its_severity(
    full_disk: SmallDisk, migrated_database_url: str, monkeypatch: pytest.MonkeyPatch,
    percent: float, level: str, severity: str | None,
) -> None:  # fmt: skip
    monkeypatch.setenv("DATABASE_URL", migrated_database_url)
    full_disk.fill_to(percent)
    result = dg.materialize([disk_capacity], raise_on_error=False)
    assert result.success
    room = checks(result)["room"]
    assert room.passed is (level == "ok")
    assert room.metadata["level"].value == level
    if severity:
        assert room.severity.value == severity
        assert str(full_disk.path) in (room.description or "")
    with psycopg.connect(migrated_database_url) as connection:
        row = connection.execute("SELECT name, used, total, facts FROM operations.capacity_samples").fetchone()
    assert row
    assert row[0] == "logs"
    assert abs(100 * row[1] / row[2] - percent) < 1
    assert row[3]["level"] == level


def test_past_critical_ingestion_refuses_the_chat_answers_and_all_recovers(
    full_disk: SmallDisk, published: Published, redis_url: str, knowledge_base: KnowledgeBase
) -> None:
    knowledge_base.write("billing.md", "# 账单\n\n购买后 7 天内可以全额退款，款项在三个工作日内原路退回。\n")
    logs = full_disk.path / "chat"
    with running_chat(logs, {**published.environment, "REDIS_URL": redis_url}) as chat:
        until(lambda: chat.health()["status"] == "healthy")
        for percent in (71, 86):
            full_disk.fill_to(percent)
            assert "5–10 个工作日" in chat.ask(QUESTION)["answer"]
            result = knowledge_base.ingest()
            assert result.success, failures(result)

        full_disk.fill_to(96)
        result = knowledge_base.ingest()
        assert not result.success
        said = failures(result)
        assert str(full_disk.path) in said
        assert "CAPACITY_CRITICAL_PERCENT=95" in said
        assert "nothing was changed" in said
        assert "\n" not in said
        assert any("7 天" in p["text"] for p in knowledge_base.live_passages())
        assert "5–10 个工作日" in chat.ask(QUESTION)["answer"]

        full_disk.fill_whole()  # where its log files are, too
        assert "5–10 个工作日" in chat.ask(QUESTION)["answer"]
        assert chat.health()["status"] == "healthy"

        full_disk.empty()
        result = knowledge_base.ingest()
        assert result.success, failures(result)
        lines = len(chat.log("access"))
        assert "5–10 个工作日" in chat.ask(QUESTION)["answer"]
        until(lambda: len(chat.log("access")) > lines)


def test_work_that_would_not_fit_does_not_start(full_disk: SmallDisk) -> None:
    settings = CapacitySettings()
    full_disk.fill_to(50)
    room_to_work(settings, 1_000_000)
    with pytest.raises(NoRoom, match=r"has 2\d\.\d MB free and would be \d+\.\d % full after 19\.5 MB more") as refused:
        room_to_work(settings, 19_500_000)
    assert "\n" not in str(refused.value)


def test_the_store_that_work_writes_to_is_looked_at_too(
    tmp_path: Path, full_disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPACITY_VOLUMES", f"elsewhere={tmp_path}")
    monkeypatch.setenv("CAPACITY_CRITICAL_PERCENT", "99.9")  # whatever disk the tests run on
    full_disk.fill_to(100)
    room_to_work(CapacitySettings())
    with pytest.raises(NoRoom, match="not-yet"):
        room_to_work(CapacitySettings(), beside=[full_disk.path / "not-yet" / "there"])


def test_running_out_of_inodes_is_being_full(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4, inodes=1000) as mounted:
        volume = disk.Volume("files", mounted.path)
        inodes = disk.measure([volume]).filesystems[0].inodes
        for number in range(math.ceil(inodes * 0.9)):
            (mounted.path / str(number)).touch()
        [found] = disk.measure([volume]).filesystems
        assert found.by_inodes
        assert disk.level(found.percent, CapacitySettings()) == "serious"
        assert "inodes" in found.told()


def test_folders_on_one_disk_are_told_once_and_a_missing_one_is_named(full_disk: SmallDisk, tmp_path: Path) -> None:
    (full_disk.path / "a").mkdir()
    watched = [
        disk.Volume("database", full_disk.path / "a"), disk.Volume("logs", full_disk.path),
        disk.Volume("files", tmp_path), disk.Volume("vectors", tmp_path / "none"),
    ]  # fmt: skip
    found = disk.measure(watched)
    assert [filesystem.name for filesystem in found.filesystems] == ["database, logs", "files"]
    [problem] = found.problems
    assert problem.startswith(f"vectors: {tmp_path}/none cannot be measured")


def test_a_disk_that_fills_is_told_days_before_with_what_fills_it(
    full_disk: SmallDisk, migrated_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", migrated_database_url)
    full_disk.fill_to(60)
    [now] = disk.measure([disk.Volume("logs", full_disk.path)]).filesystems
    daily = now.free / 5
    with psycopg.connect(migrated_database_url, autocommit=True) as connection:
        for hour in range(10 * 24, 0, -1):
            at = datetime.now(UTC) - timedelta(hours=hour)
            used = int(now.used - daily * hour / 24)
            rows = [("disk", "logs", used, now.total), ("size", "table a.b", 10_000 - hour, None)]
            if hour % 24 == 3:
                rows[0] = ("disk", "logs", now.total - 1, now.total)  # an import that came and went
            for kind, name, amount, total in rows:
                connection.execute(
                    "INSERT INTO operations.capacity_samples (taken_at, kind, name, used, total, facts) VALUES (%s, %s, %s, %s, %s, %s)",
                    (at, kind, name, amount, total, Json({})),
                )
    result = dg.materialize([disk_capacity])
    soon = checks(result)["not_full_soon"]
    assert not soon.passed
    assert "full in 5.0 days" in (soon.description or "")
    [event] = result.asset_materializations_for_node("disk_capacity")
    assert "data:image/svg+xml;base64," in str(event.metadata["disks"].value)
    assert "table a.b" in str(event.metadata["biggest_growers"].value)


def test_a_disk_is_measured_when_the_database_is_down(full_disk: SmallDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://zhiyun@127.0.0.1:9/zhiyun")
    full_disk.fill_to(96)
    result = dg.materialize([disk_capacity])
    assert checks(result)["room"].metadata["level"].value == "critical"
