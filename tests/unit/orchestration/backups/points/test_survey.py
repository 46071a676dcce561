"""A store that hangs or fails hides no other store."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

from orchestration.backups.points import survey
from orchestration.backups.points.catalogue import Point
from orchestration.backups.points.survey import look
from tests.support.backups.recovery_points import MemoryObjects, add_point


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
