"""What is wrong with the recovery points that there are, or should be, is an alert from its time on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from orchestration.backups.points.alerts import Night, conditions
from orchestration.backups.points.catalogue import Point
from tests.support.backups.recovery_points import point
from zhiyun.settings import BackupSettings

HOUR = timedelta(hours=1)
DUE = datetime(2026, 11, 23, 18, 30, tzinfo=UTC)  # 02:30 on the 24th in Shanghai
NOW = DUE + 3 * HOUR
LONG_AGO = NOW - timedelta(days=90)
NIGHTS = [Night((DUE + timedelta(hours=8, days=-n)).date().isoformat(), DUE - timedelta(days=n)) for n in range(5)]
GOOD = point("2026-11-24", "verified", DUE)


def keys(
    stores: dict[str, list[Point] | str], now: datetime = NOW, since: datetime = LONG_AGO, **settings: Any
) -> list[str]:
    return [alert.key for alert in conditions(stores, now, BackupSettings(**settings), NIGHTS, since)]


def test_a_good_night_is_no_alert() -> None:
    assert keys({"primary": [GOOD]}) == []
    assert keys({"primary": [GOOD], "offsite": [GOOD]}) == []


def test_a_night_is_missing_an_hour_after_its_time_even_if_no_run_ever_started() -> None:
    yesterday = point("2026-11-23", "verified", DUE - 24 * HOUR)
    assert keys({"primary": [yesterday]}, DUE + HOUR - timedelta(seconds=1)) == []
    assert keys({"primary": [yesterday]}, DUE + HOUR) == ["night-missing"]
    assert keys({"primary": []}, DUE + HOUR) == ["night-missing", "rpo"]
    # A night that failed is told as that; one that somebody made up for is there.
    failed = point("2026-11-24", "failed", DUE + HOUR)
    assert keys({"primary": [failed, yesterday]}, rpo_hours=48) == ["point-failed/primary"]
    by_hand = point("2026-11-24T002000Z", "verified", DUE + 2 * HOUR)
    assert keys({"primary": [by_hand, yesterday]}) == []
    stopped = [point("2026-11-21", "verified", DUE - 72 * HOUR)]
    [alert] = conditions({"primary": stopped}, NOW, BackupSettings(rpo_hours=999), NIGHTS, LONG_AGO)
    assert "3 nights in a row" in alert.text


def test_a_new_installation_owes_nothing_yet() -> None:
    assert keys({"primary": []}, since=NOW - timedelta(minutes=5)) == []
    assert keys({"primary": []}, NOW + 24 * HOUR, since=NOW) == []
    assert keys({"primary": []}, NOW + 27 * HOUR, since=NOW) == ["rpo"]


def test_a_failed_point_is_told_until_a_verified_one_comes() -> None:
    failed = point("2026-11-24T003000Z", "failed", DUE + 2 * HOUR)
    assert keys({"primary": [failed, GOOD]}) == ["point-failed/primary"]
    better = point("2026-11-24T010000Z", "verified", DUE + 2.5 * HOUR)
    assert keys({"primary": [better, failed, GOOD]}) == []


def test_an_unverified_point_is_told_an_hour_after_it_was_written() -> None:
    fresh = point("2026-11-24", "complete", DUE)
    yesterday = point("2026-11-23", "verified", DUE - 24 * HOUR)
    assert keys({"primary": [fresh, yesterday]}, DUE + HOUR) == []
    assert keys({"primary": [fresh, yesterday]}, DUE + HOUR + timedelta(seconds=1)) == ["point-unverified/primary"]
    slow = Point("2026-11-24", "complete", DUE, committed_at=DUE + 2.5 * HOUR)
    assert keys({"primary": [slow, yesterday]}, rpo_hours=48) == []


def test_the_age_of_the_newest_verified_point_has_a_limit() -> None:
    assert keys({"primary": [GOOD]}, DUE + 26 * HOUR) == []
    assert keys({"primary": [GOOD]}, DUE + 26.1 * HOUR) == ["rpo"]
    assert keys({"primary": [GOOD]}, DUE + 26.1 * HOUR, rpo_hours=48) == []
    assert keys({"primary": [], "offsite": [GOOD]}) == ["night-missing"]  # a copy counts


def test_a_missing_copy_is_told_and_a_bad_one_too() -> None:
    assert keys({"primary": [GOOD], "offsite": []}) == ["copy-missing/offsite"]
    assert keys({"primary": [GOOD], "offsite": []}, DUE + timedelta(minutes=50)) == []
    assert keys({"primary": [GOOD], "offsite": [point("2026-11-24", "complete", DUE)]}) == ["point-unverified/offsite"]
    bad = Point("2026-11-24", "failed", DUE, committed_at=DUE, reason="a byte was flipped")
    assert keys({"primary": [GOOD], "offsite": [bad]}) == ["point-failed/offsite"]


def test_a_store_that_cannot_be_read_is_told_and_hides_only_itself() -> None:
    failed = point("2026-11-24T003000Z", "failed", DUE + 2 * HOUR)
    assert keys({"primary": "It does not answer.", "offsite": [failed, GOOD]}) == [
        "point-failed/offsite",
        "store-unreachable/primary",
    ]
    assert keys({"primary": [failed, GOOD], "offsite": "It does not answer."}) == [
        "point-failed/primary",
        "store-unreachable/offsite",
    ]


def test_a_point_of_the_future_does_not_look_new_for_ever() -> None:
    wrong = point("2099-01-01", "verified", datetime(2099, 1, 1, tzinfo=UTC))
    assert keys({"primary": [wrong]}) == ["night-missing", "rpo", "clock-wrong/primary"]
