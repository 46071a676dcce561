"""Nobody is told twice of an alert, and nothing that should be told is lost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import hypothesis.strategies as st
import msgspec
from hypothesis import given

from orchestration.alarms.alert import AGAIN, Alert, NotDelivered, State, Status, Told, deliver

HOUR = timedelta(hours=1)
NOW = datetime(2026, 11, 23, 21, 30, tzinfo=UTC)


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
