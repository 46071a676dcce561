"""Recovery points and trial restores are seen by Prometheus, also when there are none, and when the database is away."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from knowledge.database import Connection, connect
from orchestration.operations_record import PointRow, record_drill, record_points
from tests.support.chat_service import Chat, running_chat, wired
from tests.support.waiting import until
from zhiyun.settings import DatabaseSettings

NIGHT = datetime(2026, 11, 24, 18, 30, tzinfo=UTC)


@pytest.fixture
def connection(migrated_database_url: str) -> Iterator[Connection]:
    with connect(DatabaseSettings(url=migrated_database_url)) as connection:
        yield connection


@pytest.fixture
def chat(migrated_database_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    environment = {"DATABASE_URL": migrated_database_url, "QDRANT_URL": "http://127.0.0.1:1", "BACKUP_RPO_HOURS": "30"}
    with (
        wired(environment, redis_url) as (changed, wires),
        running_chat(tmp_path_factory.mktemp("operations"), changed) as chat,
    ):
        chat.wires = wires
        until(lambda: chat.health()["components"]["database"] == "healthy")
        yield chat


_OURS = ("operations_", "recovery_", "backup_", "restore_")


def samples(chat: Chat) -> dict[str, float]:
    """What is told of recovery points and drills."""
    return {name: value for name, value in everything(chat).items() if name.startswith(_OURS)}


def everything(chat: Chat) -> dict[str, float]:
    response = httpx.get(f"{chat.url}/api/metrics/operations", timeout=10)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    lines = (line.rsplit(" ", 1) for line in response.text.splitlines() if not line.startswith("#"))
    return {name.removeprefix("zhiyun_"): float(value) for name, value in lines}


def test_metrics_tell_of_points_and_drills(chat: Chat, connection: Connection) -> None:
    nothing = {"operations_up": 1, "recovery_point_rpo_limit_seconds": 30 * 3600.0} | {
        f'recovery_points{{state="{state}"}}': 0 for state in ("complete", "verified", "failed")
    }
    assert samples(chat) == nothing | {"recovery_point_newest_verified_timestamp_seconds": 0}

    day = timedelta(days=1)
    rows = [
        PointRow("2026-11-22", "verified", NIGHT - 2 * day, NIGHT - day, 900, 8.0, ("local",)),
        PointRow("2026-11-23", "verified", NIGHT - day, NIGHT, 1000, 9.0, ("local", "offsite")),
        PointRow("2026-11-24", "complete", NIGHT, None, 1100, 9.5, ("local",)),
        PointRow("2026-11-25", "failed", reason="the disk was full"),
    ]
    record_points(connection, rows)
    record_drill(connection, "2026-11-22", 99.0, rpo_seconds=1.0, passed=True, at=NIGHT - day)
    record_drill(connection, "2026-11-23", 42.5, rpo_seconds=3600.0, passed=False, details={"a": 1}, at=NIGHT)
    assert samples(chat) == {
        **nothing,
        'recovery_points{state="complete"}': 1,
        'recovery_points{state="verified"}': 2,
        'recovery_points{state="failed"}': 1,
        "recovery_point_newest_verified_timestamp_seconds": (NIGHT - day).timestamp(),
        "recovery_point_newest_size_bytes": 1000,
        "backup_seconds": 9.5,
        "restore_drill_seconds": 42.5,
        "restore_drill_passed": 0,
        "restore_drill_timestamp_seconds": NIGHT.timestamp(),
    }

    # Without the database the scrape succeeds and says so; and again when it is back.
    for state in ("off", "dead"):
        chat.wires["database"].state = state  # type: ignore[assignment]
        until(lambda: samples(chat) == {"operations_up": 0, "recovery_point_rpo_limit_seconds": 30 * 3600.0}, 60)
    chat.wires["database"].state = "on"
    until(lambda: samples(chat)["operations_up"] == 1, 60)

    connection.execute("DROP SCHEMA operations CASCADE")  # a database that was not brought up to date
    assert samples(chat)["operations_up"] == 0


def test_capacity_and_dagster_are_told_there_too(chat: Chat) -> None:
    told = everything(chat)
    assert told['capacity_limit_ratio{kind="disk",level="critical"}'] == 0.95
    assert "dagster_up" in told


def test_the_table_has_exactly_the_points_that_were_told(connection: Connection) -> None:
    def table() -> dict[str, tuple[str, datetime]]:
        found = connection.execute("SELECT id, state, updated_at FROM operations.recovery_points")
        return {row[0]: (row[1], row[2]) for row in found}

    first, second = PointRow("a", "complete", NIGHT), PointRow("b", "verified", NIGHT, NIGHT, 5, 1.5, ("x", "y"), "")
    record_points(connection, [first, second])
    before = table()
    record_points(connection, [PointRow("a", "verified", NIGHT, NIGHT), second])
    after = table()
    assert after["a"][0] == "verified"
    assert after["a"][1] > before["a"][1]
    assert after["b"] == before["b"]  # nothing about it has changed
    record_points(connection, [second])
    assert table().keys() == {"b"}
    record_points(connection, [])
    assert table() == {}
