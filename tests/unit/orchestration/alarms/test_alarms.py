"""Who is told of what is wrong, and when; each service's format; conditions over facts."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from orchestration.alarms import conditions, formats
from orchestration.alarms.alert import Alert, NotDelivered, Send, State, Status, Told, deliver
from orchestration.alarms.conditions import Clockwork, EndedRun, FailedCheck, Heartbeat, RunInProgress, Watch
from orchestration.alarms.delivery import webhook
from tests.support.faults.webhook_standin import Webhook, webhook_standin
from zhiyun.settings import AlertSettings

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
DISK = Alert("check/disk_capacity/room", "warning", "Check room fails", "logs (/var/log): 71 % used")
JOB = Alert("run/ingestion", "critical", "Dagster job ingestion failed", "The database cannot be reached")
SETTINGS = AlertSettings(webhook_url="")


class Inbox:
    def __init__(self) -> None:
        self.messages: list[tuple[Status, list[str]]] = []
        self.down = False

    def send(self, status: Status, alerts: Sequence[Told]) -> None:
        if self.down:
            raise NotDelivered("down")
        self.messages.append((status, [told.alert.key for told in alerts]))


def at(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def test_it_is_told_once_when_it_begins_again_after_hours_and_once_when_it_ends() -> None:
    inbox, state = Inbox(), State(NOW)
    for minute in range(0, 13 * 60, 10):
        state, _ = deliver([DISK], state, inbox.send, at(minute), timedelta(hours=12))
    assert inbox.messages == [("firing", [DISK.key])] * 2
    state, _ = deliver([], state, inbox.send, at(800))
    state, _ = deliver([], state, inbox.send, at(801))
    assert inbox.messages[2:] == [("resolved", [DISK.key])]


def test_a_graver_alert_is_told_at_once_and_a_milder_one_is_not() -> None:
    inbox, state = Inbox(), State(NOW)
    grave = msgspec.structs.replace(DISK, severity="critical")
    for minute, alert in enumerate([DISK, grave, DISK, DISK]):
        state, _ = deliver([alert], state, inbox.send, at(minute))
    assert len(inbox.messages) == 2


def test_what_could_not_be_told_is_told_when_the_webhook_is_back() -> None:
    inbox, state = Inbox(), State(NOW)
    state, _ = deliver([DISK], state, inbox.send, at(0))
    inbox.down = True
    state, problem = deliver([JOB], state, inbox.send, at(1))
    assert problem
    state, _ = deliver([JOB], state, inbox.send, at(2))
    inbox.down = False
    state, problem = deliver([JOB], state, inbox.send, at(3))
    assert not problem
    assert inbox.messages[1:] == [("firing", [JOB.key]), ("resolved", [DISK.key])]
    deliver([JOB], state, inbox.send, at(4))
    assert len(inbox.messages) == 3


def test_what_came_and_went_while_nobody_could_be_told_is_told_as_over() -> None:
    inbox, state = Inbox(), State(NOW)
    inbox.down = True
    state, _ = deliver([DISK], state, inbox.send, at(0))
    inbox.down = False
    deliver([], state, inbox.send, at(1))
    assert inbox.messages == [("resolved", [DISK.key])]


def test_the_state_survives_a_cursor() -> None:
    state, _ = deliver([DISK, JOB], State(NOW), Inbox().send, at(0))
    assert msgspec.json.decode(msgspec.json.encode(state), type=State) == state


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook_standin() as standin:
        yield standin


def sender(hook: Webhook, **more: Any) -> tuple[Send, list[float]]:
    pauses: list[float] = []
    send = webhook(AlertSettings(webhook_url=hook.url, **more), pauses.append)
    assert send
    return send, pauses


def test_without_an_address_there_is_nobody_to_tell() -> None:
    assert webhook(SETTINGS) is None


def test_secrets_do_not_leave_the_house(hook: Webhook) -> None:
    text = "postgresql://zhiyun:hunter2@db/zhiyun refused; Authorization: Bearer abc.def; key sk-1234567890"
    leaky = msgspec.structs.replace(DISK, title="at redis://:hunter2@r:6379", text=text)
    for style in formats.SHAPES:
        send, _ = sender(hook, format=style)
        send("firing", [Told(leaky, NOW)])
    for _, _, content in hook.requests:
        assert b"hunter2" not in content
        assert b"abc.def" not in content
        assert b"sk-1234567890" not in content


def test_it_is_tried_again_and_waits_as_it_is_asked_to(hook: Webhook) -> None:
    hook.answers = [(503, "", {}), (429, "", {"retry-after": "3"})]
    send, pauses = sender(hook)
    send("firing", [Told(DISK, NOW)])
    assert len(hook.requests) == 3
    assert pauses == [0.5, 3.0]


@pytest.mark.parametrize(
    ("style", "answer", "tries"),
    [
        ("generic", (404, "", {}), 1),
        ("generic", (500, "", {}), 3),
        ("slack", (400, "invalid_payload", {}), 1),
        ("dingtalk", (200, '{"errcode": 310000, "errmsg": "sign not match"}', {}), 1),
        ("wecom", (200, '{"errcode": 93000, "errmsg": "invalid webhook url"}', {}), 1),
    ],
)
def test_a_refusal_is_a_failure_in_one_sentence_without_the_address(
    hook: Webhook, style: str, answer: tuple[int, str, dict[str, str]], tries: int
) -> None:
    hook.answers = [answer] * 3
    send, _ = sender(hook, format=style)
    with pytest.raises(NotDelivered, match=r"^ALERT_WEBHOOK_URL could not be told") as failed:
        send("firing", [Told(DISK, NOW)])
    assert len(hook.requests) == tries
    assert "very-secret-token" not in str(failed.value)
    assert "\n" not in str(failed.value)


def test_nobody_there_is_a_failure_too() -> None:
    send = webhook(AlertSettings(webhook_url="http://127.0.0.1:9/hook?token=very-secret-token"), lambda _: None)
    assert send
    with pytest.raises(NotDelivered, match="no answer: ConnectError") as failed:
        send("firing", [Told(DISK, NOW)])
    assert "very-secret-token" not in str(failed.value)


def test_an_address_that_is_none_is_a_failure_too() -> None:
    for style in formats.SHAPES:
        send = webhook(AlertSettings(webhook_url="http://[broken", format=style, secret="x"), lambda _: None)
        assert send
        with pytest.raises(NotDelivered):
            send("firing", [Told(DISK, NOW)])


def test_dingtalks_signature_is_the_one_of_its_documentation(hook: Webhook) -> None:
    send, _ = sender(hook, format="dingtalk", secret="SEC123")
    send("firing", [Told(JOB, NOW)])
    query = {name: values[0] for name, values in parse_qs(urlsplit(hook.requests[0][0]).query).items()}
    assert query["access_token"] == "very-secret-token"
    expected = hmac.new(b"SEC123", f"{query['timestamp']}\nSEC123".encode(), hashlib.sha256).digest()
    assert query["sign"] == base64.b64encode(expected).decode()
    [body] = hook.bodies
    assert body["msgtype"] == "markdown"
    assert "Dagster job ingestion failed" in body["markdown"]["title"]
    assert "The database cannot be reached" in body["markdown"]["text"]


def test_the_generic_format_is_signed_over_its_body(hook: Webhook) -> None:
    send, _ = sender(hook, secret="shared")
    send("firing", [Told(JOB, NOW)])
    [(_, headers, content)] = hook.requests
    assert headers["x-zhiyun-signature"] == "sha256=" + hmac.new(b"shared", content, hashlib.sha256).hexdigest()
    assert hook.bodies == [
        {
            "service": "zhiyun", "status": "firing",
            "alerts": [{
                "key": JOB.key, "severity": "critical", "title": JOB.title, "text": JOB.text,
                "since": "2026-11-24T12:00:00+00:00",
            }],
        }
    ]  # fmt: skip


def test_a_long_night_fits_into_what_wecom_takes_and_the_rest_is_counted() -> None:
    many = [Told(Alert(f"k{n}", "critical", f"告警 {n}", "磁盘快满了，" * 60), NOW) for n in range(20)]
    content = formats.as_wecom("firing", many)["markdown"]["content"]
    assert len(content.encode()) <= 4096
    assert content.endswith(" more")
    one = formats.as_wecom("firing", [Told(Alert("k", "critical", "t", "长" * 1500), NOW)])["markdown"]["content"]
    assert 3000 < len(one.encode()) <= 4096


def test_slack_gets_its_three_characters_escaped_and_the_end_in_green() -> None:
    body = formats.as_slack("resolved", [Told(Alert("k", "critical", "a < b & <!channel>", "x"), NOW)])
    assert "<!channel>" not in str(body)
    assert body["attachments"][0]["color"] == "#2e8b57"


def keys(alerts: list[Alert]) -> list[str]:
    return [alert.key for alert in alerts]


def test_a_failed_run_alarms_until_a_later_one_succeeds_and_not_while_it_is_tried_again() -> None:
    runs = [
        EndedRun("ingestion", "r1", failed=True, ended=NOW, reason="No space"),
        EndedRun("backup", "r2", failed=False, ended=NOW),
        EndedRun("maintenance", "r3", failed=True, ended=NOW, retried=True),
    ]
    [alert] = conditions.of_runs(runs)
    assert alert.key == "run/ingestion"
    assert "No space" in alert.text


def test_a_run_that_is_silent_for_too_long_alarms() -> None:
    runs = [
        RunInProgress("a", "run-a", queued=False, heard=at(-31)), RunInProgress("b", "run-b", queued=False, heard=at(-29)),
        RunInProgress("c", "run-c", queued=True, heard=at(-100)), RunInProgress("d", "run-d", queued=True, heard=at(-121)),
    ]  # fmt: skip
    assert keys(conditions.of_silence(runs, SETTINGS, NOW)) == ["silent/run-a", "silent/run-d"]


LONG = Watch(at(-10_000), at(-10_000))


@pytest.mark.parametrize(
    ("work", "watch", "expected"),
    [
        (Clockwork("s", "schedule", True, False), LONG, ["off/s"]),
        (Clockwork("s", "schedule", False, False), LONG, []),
        (Clockwork("s", "schedule", True, True, at(-11), at(-71)), LONG, ["missed/s"]),
        (Clockwork("s", "schedule", True, True, at(-9), at(-69)), LONG, []),
        (Clockwork("s", "schedule", True, True, at(-11), at(-11)), LONG, []),
        (Clockwork("s", "schedule", True, True, at(-11), None), LONG, ["missed/s"]),
        # installed after it was due: nobody missed it
        (Clockwork("s", "schedule", True, True, at(-60), None), Watch(at(-30), at(-30)), []),
        # all was down when it was due: Dagster makes up for it, and has ten minutes for that
        (Clockwork("s", "schedule", True, True, at(-60), at(-120)), Watch(at(-900), at(-5)), []),
        (Clockwork("s", "schedule", True, True, at(-60), at(-120)), Watch(at(-900), at(-11)), ["missed/s"]),
        (Clockwork("s", "sensor", True, True, at(-11), at(-1), tick_failed="ImportError"), LONG, ["tick/s"]),
    ],
)  # fmt: skip
def test_schedules_that_are_off_late_or_failing_alarm(work: Clockwork, watch: Watch, expected: list[str]) -> None:
    assert keys(conditions.of_clockwork([work], SETTINGS, watch, NOW)) == expected


def test_a_silent_daemon_alarms_and_one_that_was_just_started_does_not() -> None:
    beats = [Heartbeat("SCHEDULER", at(-6)), Heartbeat("SENSOR", at(-1)), Heartbeat("MONITORING", None)]
    assert keys(conditions.of_heartbeats(beats, SETTINGS, LONG, NOW)) == ["daemon/SCHEDULER", "daemon/MONITORING"]
    assert not conditions.of_heartbeats(beats, SETTINGS, Watch(at(-900), at(-2)), NOW)


def test_a_failing_check_alarms_with_its_own_severity() -> None:
    found = conditions.of_checks([FailedCheck("disk_capacity", "room", False, "71 %"), FailedCheck("a", "b", True)])
    assert [alert.severity for alert in found] == ["warning", "critical"]
