"""What is sent to the address for alerts has a shape and no secrets, and is tried again."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from orchestration.alarms import delivery
from orchestration.alarms.alert import Alert, NotDelivered, Send, Told
from tests.support.faults.alert_receiver import Receiver
from zhiyun.settings import AlertSettings

NOW = datetime(2026, 11, 23, 21, 30, tzinfo=UTC)


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
    told = [Told(Alert("a", "warning", "a", "a"), NOW)]
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
