"""Retention: what is kept whatever happens, and that deleting never leaves half a point in the list."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from objects.store import ObjectStoreError
from orchestration.backups.points.catalogue import Point, points
from orchestration.backups.points.retention import Plan, Policy, plan, prune, prune_all
from orchestration.backups.recovery_point import State, failure_key, manifest_key
from tests.support.backups.recovery_points import (
    NIGHT,
    Killed,
    MemoryObjects,
    add_failure,
    add_point,
    assert_whole,
    point,
)

DAY = timedelta(days=1)


def night(days_ago: float, state: State = "verified") -> Point:
    made_at = NIGHT - days_ago * DAY
    return point(made_at.strftime("%Y-%m-%dT%H%M%SZ"), state, made_at)


def ids(items: Sequence[tuple[Point, str]]) -> set[str]:
    return {point.id for point, _ in items}


def expired(points: Sequence[Point], policy: Policy | None = None, now: datetime = NIGHT) -> set[str]:
    return ids(plan(points, policy or Policy(), now).expire)


# --- what is kept ---------------------------------------------------------------------------------------------------

_STATES: st.SearchStrategy[State] = st.sampled_from(["verified", "verified", "complete", "failed"])
_HISTORIES = st.lists(st.tuples(st.integers(0, 200 * 24), _STATES), unique_by=lambda item: item[0], max_size=60).map(
    lambda items: [night(hours / 24, state) for hours, state in items]
)
_POLICIES = st.builds(
    Policy,
    days=st.integers(1, 60),
    minimum=st.integers(1, 5),
    weekly=st.integers(0, 6),
    monthly=st.integers(0, 4),
    timezone=st.sampled_from(["Asia/Shanghai", "UTC", "America/New_York"]),
)
_NOWS = st.datetimes(datetime(1971, 1, 1), datetime(2199, 1, 1)).map(lambda now: now.replace(tzinfo=UTC))


def check_plan(planned: Plan, history: Sequence[Point], policy: Policy) -> None:
    assert ids(planned.keep) | ids(planned.expire) == {point.id for point in history}
    assert not ids(planned.keep) & ids(planned.expire)
    assert all(why for _, why in planned.keep + planned.expire)
    verified = [point for point in history if point.state == "verified"]
    kept = [point for point, _ in planned.keep if point.state == "verified"]
    assert len(kept) >= min(policy.minimum, len(verified))
    if planned.expire:
        anchor = max(point.made_at for point in verified)
        assert all(point.made_at < anchor - policy.days * DAY for point, _ in planned.expire)
    assert not (planned.frozen and planned.expire)


@given(_HISTORIES, _POLICIES)
def test_enough_verified_points_stay_and_only_old_ones_go(history: list[Point], policy: Policy) -> None:
    check_plan(plan(history, policy, NIGHT), history, policy)


@given(_HISTORIES, _POLICIES, st.lists(st.integers(0, 200 * 24 * 60), max_size=10))
def test_failed_tries_change_nothing_but_that_expiry_stops(
    history: list[Point], policy: Policy, failures: list[int]
) -> None:
    more = [night(minutes / 1440 + 1 / 86_400, "failed") for minutes in failures]
    alone, together = plan(history, policy, NIGHT), plan(history + more, policy, NIGHT)
    left = ids(together.expire) - {point.id for point in more}
    assert left == (set[str]() if together.frozen else ids(alone.expire))


@given(_HISTORIES, _POLICIES, _NOWS)
@settings(max_examples=200)
def test_a_clock_that_jumps_expires_nothing_more(history: list[Point], policy: Policy, wrong: datetime) -> None:
    assert expired(history, policy, wrong) <= expired(history, policy, NIGHT)


@given(_HISTORIES, _POLICIES)
def test_a_long_kept_point_stays_when_nights_are_added(history: list[Point], policy: Policy) -> None:
    """Deleting night by night keeps what one deletion at the end would keep: no week loses its last point early."""
    nights = sorted(history, key=lambda point: point.made_at)
    there: list[Point] = []
    for made in nights:
        there.append(made)
        gone = expired(there, policy)
        there = [point for point in there if point.id not in gone]
    at_once = plan(nights, policy, NIGHT)
    if not at_once.frozen and all(point.state == "verified" for point in nights):
        assert ids(at_once.keep) <= {point.id for point in there}


def test_thirty_one_failing_nights_keep_everything() -> None:
    history = [night(age) for age in range(31, 40)] + [night(age, "failed") for age in range(31)]
    planned = plan(history, Policy(), NIGHT)
    assert not planned.expire
    assert planned.frozen
    assert "failed" in planned.frozen


def test_time_is_counted_from_the_newest_verified_point() -> None:
    history = [night(100), night(101), night(102), night(131)]
    assert expired(history, now=NIGHT + 1000 * DAY) == {history[3].id}


@pytest.mark.parametrize(
    ("newest", "said"), [("failed", "the newest try"), ("complete", "is not verified")], ids=["failed", "unverified"]
)
def test_nothing_expires_while_the_newest_point_is_not_good(newest: State, said: str) -> None:
    history = [night(age) for age in range(1, 60)]
    assert expired(history)
    planned = plan([*history, night(0, newest)], Policy(), NIGHT)
    assert not planned.expire
    assert said in (planned.frozen or "")


def test_without_a_verified_point_nothing_expires() -> None:
    planned = plan([night(age, "complete") for age in range(90)], Policy(), NIGHT)
    assert not planned.expire
    assert planned.frozen == "there is no verified recovery point"
    assert plan([], Policy(), NIGHT).frozen


def test_old_points_that_failed_or_were_never_verified_go_with_their_age() -> None:
    history = [night(0), night(1), night(2), night(31, "failed"), night(32, "complete"), night(29, "failed")]
    assert expired(history) == {history[3].id, history[4].id}


def test_the_last_verified_points_of_weeks_and_months_stay() -> None:
    history = [night(age) for age in range(120)]
    planned = plan(history, Policy(days=30, weekly=3, monthly=2), NIGHT)
    long_kept = {point.made_at.date().isoformat(): why for point, why in planned.keep if "last verified" in why}
    # In Shanghai these are three Sundays and the last days of August and September, at 02:30.
    assert sorted(long_kept) == ["2026-08-30", "2026-09-29", "2026-10-10", "2026-10-17", "2026-10-24"]


def test_a_point_of_the_future_is_kept_and_is_no_anchor() -> None:
    history = [night(age) for age in range(40)]
    wrong = night(-70 * 365)
    assert expired([*history, wrong]) == expired(history)


def test_what_a_later_version_wrote_stays() -> None:
    later = Point("2026-01-01", "failed", NIGHT - 300 * DAY, later=True, committed_at=NIGHT)
    assert expired([*(night(age) for age in range(40)), later]) == expired([night(age) for age in range(40)])


# --- deleting -------------------------------------------------------------------------------------------------------


def a_store(nights: int = 6, every: int = 10) -> MemoryObjects:
    """Points every ten nights, the newest last; each has a file of its own, one that all have and one of two nights."""
    store = MemoryObjects()
    for number in reversed(range(nights)):
        store.now = NIGHT - number * every * DAY
        files = {"own.md": f"own {number}".encode(), "all.md": b"all", "two.md": f"two {number // 2}".encode()}
        add_point(store, (store.now + timedelta(hours=8)).strftime("%Y-%m-%d"), "verified", store.now, files)
    store.now = NIGHT
    return store


def test_expired_points_go_with_the_files_that_only_they_had() -> None:
    store = a_store()
    objects = len([key for key in store.objects if key.startswith("files/")])
    report = prune(store, Policy(), NIGHT)
    assert report.expired == ["2026-10-06", "2026-10-16"]
    assert [point.id for point in assert_whole(store)] == ["2026-11-25", "2026-11-15", "2026-11-05", "2026-10-26"]
    assert objects - len([key for key in store.objects if key.startswith("files/")]) == 3
    assert report.orphans == 3
    assert report.bytes_freed > 0
    assert not report.problems
    assert store.swept == 1
    again = prune(store, Policy(), NIGHT)
    assert (again.expired, again.orphans, again.bytes_freed) == ([], 0, 0)


def test_a_dry_run_tells_the_same_and_deletes_nothing() -> None:
    store = a_store()
    before = dict(store.objects)
    told = prune(store, Policy(), NIGHT, dry_run=True)
    assert store.objects == before
    done = prune(store, Policy(), NIGHT)
    assert (told.expired, told.orphans, told.bytes_freed, told.kept) == (
        done.expired,
        done.orphans,
        done.bytes_freed,
        done.kept,
    )
    assert "would be expired" in told.as_text()
    assert "| 2026-11-25 |" in told.as_markdown()


def test_killed_at_any_deletion_every_listed_point_is_whole_and_the_next_run_ends_the_work() -> None:
    goal = a_store()
    prune(goal, Policy(), NIGHT)
    deletions = 0
    while True:
        store = a_store()
        store.deletions_left = deletions
        try:
            prune(store, Policy(), NIGHT)
        except Killed:
            there = assert_whole(store)
            assert len(there) >= 4
            store.deletions_left = None
            prune(store, Policy(), NIGHT)
            assert store.objects.keys() == goal.objects.keys()
            deletions += 1
        else:
            break
    assert deletions > 10


def test_a_store_that_breaks_half_way_is_told_with_what_was_done() -> None:
    store = a_store()
    delete = store.delete

    def breaking(keys: list[str]) -> int:
        keys = list(keys)
        if keys == [manifest_key("2026-10-16")]:
            raise ObjectStoreError("memory://primary does not answer.")
        return delete(keys)

    store.delete = breaking  # type: ignore[method-assign]
    report = prune(store, Policy(), NIGHT)
    assert report.expired == ["2026-10-06"]
    assert report.problems == ["Stopped there: memory://primary does not answer."]
    assert "2026-10-06" in report.as_text()
    assert "does not answer" in report.as_text()
    assert_whole(store)


def test_files_stay_when_one_inventory_cannot_be_read() -> None:
    store = a_store()
    kept = points(store)[0].manifest
    assert kept
    data, modified = store.objects[kept.files.inventory.key]
    store.objects[kept.files.inventory.key] = (data[:-1] + b"\0", modified)
    before = {key for key in store.objects if key.startswith("files/")}
    report = prune(store, Policy(), NIGHT)
    assert {key for key in store.objects if key.startswith("files/")} == before
    assert "Files were not looked at" in report.as_text()
    assert "2026-11-25" in report.as_text()


def test_files_stay_when_a_manifest_is_damaged() -> None:
    store = a_store()
    data, modified = store.objects[manifest_key("2026-11-05")]
    store.objects[manifest_key("2026-11-05")] = (data.replace(b"platform", b"plotform"), modified)
    before = {key for key in store.objects if key.startswith("files/")}
    prune(store, Policy(), NIGHT)
    assert {key for key in store.objects if key.startswith("files/")} == before
    assert any(key.startswith("points/2026-11-05/a1/") for key in store.objects)


def test_what_a_try_left_goes_by_the_next_night_and_not_before_some_hours() -> None:
    store = a_store()
    for age, name in ((7, "2026-11-20"), (5, "2026-11-23")):
        store.now = NIGHT - timedelta(hours=age)
        store.put(f"points/{name}/b2/postgres-zhiyun.dump.zst", [b"half"])
    store.now = NIGHT - timedelta(hours=30)
    store.put("points/2026-11-25/b2/globals.sql.zst", [b"a try before the one that became the point"])
    store.put("points/2026-11-22/c3/globals.sql.zst", [b"of a night that failed"])
    add_failure(store, "2026-11-22", store.now)
    store.put("points/not-ours/thing", [b"somebody's"])
    report = prune(store, Policy(), NIGHT)
    left = {key for key in store.objects if key.startswith("points/") and "/a1/" not in key}
    assert "points/2026-11-20/b2/postgres-zhiyun.dump.zst" not in left
    assert "points/2026-11-25/b2/globals.sql.zst" not in left
    assert "points/2026-11-22/c3/globals.sql.zst" not in left
    assert "points/2026-11-23/b2/postgres-zhiyun.dump.zst" in left
    assert failure_key("2026-11-22") in left
    assert "points/not-ours/thing" in left
    # The young one may be a backup that is under way and needs files that no point names yet.
    assert "2026-11-23 may be a backup that is under way" in report.as_text()
    assert_whole(store)


def test_a_backup_that_is_under_way_loses_nothing_however_old_it_is() -> None:
    store = a_store()
    store.now = NIGHT - 3 * DAY
    store.put("points/2026-11-22/b2/globals.sql.zst", [b"slow"])
    store.put("files/00/" + "0" * 63 + "1.zst", [b"brought by it"])
    before = {key for key in store.objects if key.startswith(("files/", "points/2026-11-22"))}
    prune(store, Policy(), NIGHT, under_way=["2026-11-22"])
    assert {key for key in store.objects if key.startswith(("files/", "points/2026-11-22"))} == before
    prune(store, Policy(), NIGHT)
    assert "points/2026-11-22/b2/globals.sql.zst" not in store.objects


def test_a_store_that_cannot_be_listed_freezes_the_others_too() -> None:
    good, gone = a_store(), MemoryObjects("offsite")
    gone.unreachable = "does not answer"
    first, second = prune_all([good, gone], Policy(), NIGHT)
    assert not first.expired
    assert "memory://offsite cannot be listed" in (first.frozen or "")
    assert "cannot be listed" in (second.frozen or "")
    assert len(assert_whole(good)) == 6
    gone.unreachable = ""
    assert len(prune_all([good, gone], Policy(), NIGHT)[0].expired) == 2


def test_old_snapshots_on_the_node_are_swept_and_their_failure_hides_nothing() -> None:
    asked: list[bool] = []

    def sweep(dry_run: bool) -> int:
        asked.append(dry_run)
        if len(asked) == 2:
            raise RuntimeError("http://user:secret@qdrant does not answer")
        return 3

    store = a_store()
    assert prune(store, Policy(), NIGHT, dry_run=True, node_sweep=sweep).node_snapshots == 3
    report = prune(store, Policy(), NIGHT, node_sweep=sweep)
    assert asked == [True, False]
    assert len(report.expired) == 2
    assert "secret" not in report.as_text()
    assert "does not answer" in report.as_text()
