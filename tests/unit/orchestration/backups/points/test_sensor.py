"""The sensor tells what is wrong though no run was ever started and whatever cannot be reached."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import msgspec
import pytest

from objects.folder import FolderObjects
from orchestration.alarms.alert import State
from orchestration.backups.points.alerts import Night
from orchestration.sensors import expected_nights, recovery_point_alerts
from tests.support.backups.recovery_points import add_failure, add_point
from tests.support.faults.alert_receiver import Receiver
from zhiyun.settings import BackupSettings

DUE = datetime(2026, 11, 23, 18, 30, tzinfo=UTC)  # 02:30 on the 24th in Shanghai


@pytest.fixture
def store(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> FolderObjects:
    monkeypatch.setenv("BACKUP_STORES", str(tmp_path / "backups"))
    monkeypatch.setenv("ALERT_WEBHOOK_URL", receiver.url)
    return FolderObjects("primary", tmp_path / "backups")


def sense(cursor: str | None) -> tuple[str, str | None]:
    context = dg.build_sensor_context(cursor=cursor)
    said = recovery_point_alerts(context)
    assert isinstance(said, dg.SkipReason)
    return said.skip_message or "", context.cursor


def long_watched() -> str:
    return msgspec.json.encode(State(datetime.now(UTC) - timedelta(days=9))).decode()


def test_the_sensor_tells_a_missing_night_though_no_run_was_ever_started(
    store: FolderObjects, receiver: Receiver
) -> None:
    said, cursor = sense(None)
    assert "All is well" in said  # it has only just begun to look
    said, cursor = sense(long_watched())
    assert "No recovery point was made in the night of" in said
    assert [alert["key"] for alert in receiver.bodies[0]["alerts"]] == ["night-missing", "rpo"]
    sense(cursor)
    assert len(receiver.bodies) == 1
    add_point(store, datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ"), made_at=datetime.now(UTC))
    said, cursor = sense(cursor)
    assert "All is well" in said
    assert receiver.bodies[1]["status"] == "resolved"


def test_the_sensor_tells_a_failure_again_when_the_address_was_down(store: FolderObjects, receiver: Receiver) -> None:
    add_failure(store, datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ"), datetime.now(UTC), "pg_dump ended with 1")
    receiver.answers = [500, 500, 500]
    said, cursor = sense(None)
    assert "pg_dump ended with 1" in said
    assert "could not be told" in said
    sense(cursor)
    assert [alert["key"] for alert in receiver.bodies[0]["alerts"]] == ["point-failed/primary"]


def test_the_sensor_works_when_a_store_cannot_be_reached_and_with_a_cursor_that_is_rubbish(
    store: FolderObjects, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKUP_STORES", f"{store.url[7:]},s3=s3://bucket/points")
    monkeypatch.setenv("S3_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("S3_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", "geheim")
    said, cursor = sense("{rubbish")
    assert "The backup store s3 cannot be read" in said
    assert "geheim" not in said
    assert [alert["key"] for alert in receiver.bodies[0]["alerts"]] == ["store-unreachable/s3"]
    assert cursor
    monkeypatch.delenv("ALERT_WEBHOOK_URL")
    assert "Nobody is told" in sense(cursor)[0]


def test_the_nights_that_are_expected_follow_the_cron_and_its_time_zone() -> None:
    now = datetime(2026, 11, 23, 18, 29, tzinfo=UTC)
    nights = expected_nights(BackupSettings(), now)
    assert nights[-1] == Night("2026-11-23", DUE - timedelta(days=1))
    nights = expected_nights(BackupSettings(), now + timedelta(minutes=1))
    assert nights[-1] == Night("2026-11-24", DUE)
    assert len(nights) >= 14
    weekdays = expected_nights(BackupSettings(cron="30 2 * * 1-5", timezone="Europe/Berlin"), now)
    assert [night.id for night in weekdays[-3:]] == ["2026-11-19", "2026-11-20", "2026-11-23"]
    several = expected_nights(BackupSettings(cron="0 */6 * * *"), now)
    assert several[-1] == Night("2026-11-24", datetime(2026, 11, 23, 16, tzinfo=UTC))
