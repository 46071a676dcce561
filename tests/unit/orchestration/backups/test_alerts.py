"""Alerts: nobody has to look, nobody is told twice, and nothing that should be told is lost."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from objects.folder import FolderObjects
from orchestration.alarms import delivery
from orchestration.alarms.alert import AGAIN, Alert, NotDelivered, Send, State, Status, Told, deliver
from orchestration.backups.points import survey
from orchestration.backups.points.alerts import Night, conditions
from orchestration.backups.points.catalogue import Point
from orchestration.backups.points.survey import look
from orchestration.sensors import expected_nights, recovery_point_alerts
from tests.support.backups.recovery_points import MemoryObjects, add_failure, add_point, point
from zhiyun.settings import AlertSettings, BackupSettings

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


# --- conditions -----------------------------------------------------------------------------------------------------


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


# --- telling --------------------------------------------------------------------------------------------------------


class Mailbox:
    """What people were told; `down` says why nothing arrives."""

    def __init__(self) -> None:
        self.told: list[tuple[Status, list[str]]] = []
        self.down = False

    def __call__(self, status: Status, alerts: Sequence[Told]) -> None:
        if self.down:
            raise NotDelivered("The address does not answer.")
        self.told.append((status, [told.alert.key for told in alerts]))

    def take(self) -> list[tuple[Status, list[str]]]:
        told, self.told = self.told, []
        return told


def alert(key: str, severity: Any = "warning", stores: tuple[str, ...] = (), blind: bool = False) -> Alert:
    return Alert(key, severity, key, key, stores, blind)


def tick(state: State, box: Mailbox, now: datetime, *alerts: Alert) -> State:
    """One tick, with the state written down and read again between."""
    state, _ = deliver(alerts, msgspec.json.decode(msgspec.json.encode(state), type=State), box, now)
    return state


def test_an_alert_is_told_once_then_once_a_day_then_that_it_is_over() -> None:
    box, state = Mailbox(), State(NOW)
    for minutes in range(0, 24 * 60, 5):
        state = tick(state, box, NOW + timedelta(minutes=minutes), alert("a"))
    assert box.take() == [("firing", ["a"])]
    state = tick(state, box, NOW + AGAIN, alert("a"), alert("b"))
    assert box.take() == [("firing", ["a", "b"])]
    state = tick(state, box, NOW + AGAIN, alert("b"))
    assert box.take() == [("resolved", ["a"])]
    state = tick(state, box, NOW + AGAIN)
    state = tick(state, box, NOW + AGAIN)
    assert box.take() == [("resolved", ["b"])]
    assert state == State(NOW)


def test_what_could_not_be_told_is_told_later() -> None:
    box, state = Mailbox(), State(NOW)
    box.down = True
    state = tick(state, box, NOW, alert("a"), alert("b"))
    state = tick(state, box, NOW, alert("b"))
    box.down = False
    state = tick(state, box, NOW, alert("b"))
    assert box.take() == [("firing", ["b"]), ("resolved", ["a"])]
    assert state.firing["b"].since == NOW


def test_an_alert_that_comes_back_before_anybody_heard_that_it_was_over_goes_on() -> None:
    box, state = Mailbox(), State(NOW)
    state = tick(state, box, NOW, alert("a"))
    box.down = True
    state = tick(state, box, NOW + HOUR)
    box.down = False
    state = tick(state, box, NOW + 2 * HOUR, alert("a"))
    assert box.take() == [("firing", ["a"])]
    assert state.firing["a"].since == NOW


def test_what_gets_worse_is_told_at_once() -> None:
    box, state = Mailbox(), State(NOW)
    state = tick(state, box, NOW, alert("a"))
    state = tick(state, box, NOW, alert("a", "critical"))
    state = tick(state, box, NOW, alert("a", "critical"))
    assert len(box.take()) == 2


def test_nothing_is_over_only_because_the_store_cannot_be_seen() -> None:
    box, state = Mailbox(), State(NOW)
    state = tick(state, box, NOW, alert("copy-missing/b", stores=("a", "b")), alert("other", stores=("c",)))
    box.take()
    gone = alert("store-unreachable/a", "critical", ("a",), blind=True)
    state = tick(state, box, NOW, gone)
    assert box.take() == [("firing", ["store-unreachable/a"]), ("resolved", ["other"])]
    state = tick(state, box, NOW)
    assert box.take() == [("resolved", ["store-unreachable/a", "copy-missing/b"])]


def test_without_an_address_the_state_is_kept_and_told_when_there_is_one() -> None:
    state, why = deliver([alert("a")], State(NOW), None, NOW)
    assert why == ""
    box = Mailbox()
    tick(state, box, NOW + HOUR, alert("a"))
    assert box.take() == [("firing", ["a"])]


@given(st.lists(st.tuples(st.sets(st.sampled_from("abc")), st.booleans()), max_size=25))
def test_whoever_listens_knows_in_the_end_what_holds(ticks: list[tuple[set[str], bool]]) -> None:
    """Whatever came and went while nobody could be told: what was told last of each alert is true."""
    box, state, told = Mailbox(), State(NOW), dict[str, Status]()
    ever: set[str] = set()
    for number, (holding, down) in enumerate([*ticks, (ticks[-1][0] if ticks else set(), False)]):
        box.down = down
        ever |= holding
        state = tick(state, box, NOW + number * timedelta(minutes=5), *(alert(key) for key in sorted(holding)))
        for status, names in box.take():
            told |= dict.fromkeys(names, status)
        if not down:
            assert {key for key, status in told.items() if status == "firing"} == holding
    assert set(told) == ever


# --- the address ----------------------------------------------------------------------------------------------------


class Receiver(ThreadingHTTPServer):
    """An address that answers as it is told, in turn; then with 200."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[int] = []
        self.bodies: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook?token=sk-abcdefghijkl"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = self.server.answers.pop(0) if self.server.answers else 200
        if answer == 0:
            self.close_connection = True
            return
        if answer == 200:
            self.server.bodies.append(body)
        self.send_response(answer)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def _webhook(url: str) -> Send:
    send = delivery.webhook(AlertSettings(webhook_url=url), lambda _: None)
    assert send
    return send


def test_what_is_sent_has_a_shape_and_no_secrets(receiver: Receiver) -> None:
    told = Told(Alert("k", "critical", "title", "at postgresql://u:geheim@db/x with Bearer abc.def"), NOW)
    _webhook(receiver.url)("firing", [told])
    assert receiver.bodies == [
        {
            "service": "zhiyun",
            "status": "firing",
            "alerts": [
                {
                    "key": "k",
                    "severity": "critical",
                    "title": "title",
                    "text": "at postgresql://u:***@db/x with Bearer ***",
                    "since": "2026-11-23T21:30:00+00:00",
                }
            ],
        }
    ]


def test_an_address_that_fails_is_tried_three_times(receiver: Receiver) -> None:
    told = [Told(alert("a"), NOW)]
    receiver.answers = [500, 0]
    _webhook(receiver.url)("firing", told)
    assert len(receiver.bodies) == 1
    receiver.answers = [500, 0, 302, 200]
    with pytest.raises(NotDelivered) as error:
        _webhook(receiver.url)("firing", told)
    assert receiver.answers == [200]
    assert "ALERT_WEBHOOK_URL" in str(error.value)
    assert "sk-" not in str(error.value)
    with pytest.raises(NotDelivered):
        _webhook("http://127.0.0.1:1/")("firing", told)
    with pytest.raises(NotDelivered):
        _webhook("http://[broken")("firing", told)


# --- looking --------------------------------------------------------------------------------------------------------


class Hanging(MemoryObjects):
    """A store that answers when `let` is set."""

    def __init__(self) -> None:
        super().__init__("hanging")
        self.let = threading.Event()
        self.asked = 0

    def list(self, prefix: str = "") -> Iterator[Any]:
        self.asked += 1
        self.let.wait(60)
        return super().list(prefix)


def test_a_store_that_hangs_does_not_hold_up_the_others_and_is_asked_once() -> None:
    hanging, broken, good = Hanging(), MemoryObjects("broken"), MemoryObjects("good")
    broken.unreachable = "answered: s3://key:geheim@host is down"
    add_point(good, "2026-11-24")
    started = time.monotonic()
    for _ in range(3):
        found = look([hanging, broken, good], timeout=0.3)
    assert time.monotonic() - started < 30
    assert "did not answer" in str(found["hanging"])
    assert "is down" in str(found["broken"])
    assert "geheim" not in str(found["broken"])
    assert [point.id for point in found["good"] if isinstance(point, Point)] == ["2026-11-24"]
    assert hanging.asked == 1
    hanging.let.set()
    survey._waiting[hanging.url].join()
    assert look([hanging], timeout=30) == {"hanging": []}


# --- the sensor -----------------------------------------------------------------------------------------------------


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
