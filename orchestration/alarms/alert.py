"""Alerts, and who must be told of them now: once when they begin, seldom while they stay, once when they end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

import msgspec

from zhiyun.logs import without_secrets

Severity: TypeAlias = Literal["warning", "critical"]
Status: TypeAlias = Literal["firing", "resolved"]

AGAIN = timedelta(days=1)
"""What goes on is told again after this, unless the caller says otherwise (ALERT_REPEAT_HOURS)."""
_RESOLVED_MAX = 100  # resolved alerts that wait to be told; beyond it the oldest are left out


class Alert(msgspec.Struct, frozen=True):
    """A condition that holds now. Its key stays the same as long as it does."""

    key: str
    severity: Severity
    title: str
    text: str
    stores: tuple[str, ...] = ()  # which stores have to be seen to know that it is over
    blind: bool = False  # these stores cannot be seen now: what was wrong there may still be


class Told(msgspec.Struct, frozen=True):
    """An alert on its way to somebody: since when it holds, and when it was last told (None: not yet)."""

    alert: Alert
    since: datetime
    told: datetime | None = None


class State(msgspec.Struct, frozen=True):
    """What `deliver` keeps from one time to the next; a sensor has it in its cursor, as JSON."""

    watching_since: datetime
    firing: dict[str, Told] = {}
    resolved: tuple[Told, ...] = ()  # over, but nobody could be told


Send: TypeAlias = Callable[[Status, Sequence[Told]], None]
"""Tells somebody; raises NotDelivered if that failed."""


class NotDelivered(Exception):
    """Nobody was told. One sentence, without secrets."""


def deliver(
    alerts: Sequence[Alert], previous: State, send: Send | None, now: datetime, again: timedelta = AGAIN
) -> tuple[State, str]:
    """Tell what is new, what still holds after `again`, and what is over; gives the new state, and why telling failed.

    What could not be told stays in the state and is told the next time. Without `send` nobody is told, but the state is
    kept: an address that is set later hears of everything that holds then.
    """
    blind = {store for alert in alerts if alert.blind for store in alert.stores}
    firing: dict[str, Told] = {}
    for alert in alerts:
        before = previous.firing.get(alert.key)
        if before is None:
            # It was over, and nobody heard of that: it goes on, and nobody needs to.
            before = next((told for told in previous.resolved if told.alert.key == alert.key), None)
        if before is None:
            firing[alert.key] = Told(alert, now)
        else:
            worse = alert.severity == "critical" != before.alert.severity
            firing[alert.key] = Told(alert, before.since, None if worse else before.told)
    over = [told for told in previous.resolved if told.alert.key not in firing]
    for key, told in previous.firing.items():
        if key not in firing:
            if blind.intersection(told.alert.stores) and not told.alert.blind:
                firing[key] = told
            else:
                over.append(told)
    if send is None:
        return State(previous.watching_since, firing), ""
    try:
        if due := [told for told in firing.values() if told.told is None or _stale(told.told, now, again)]:
            send("firing", due)
            firing |= {told.alert.key: msgspec.structs.replace(told, told=now) for told in due}
        if over:
            send("resolved", over)
            over = []
    except NotDelivered as error:
        return State(previous.watching_since, firing, tuple(over[-_RESOLVED_MAX:])), str(error)
    return State(previous.watching_since, firing), ""


def safe(alert: Alert) -> Alert:
    """The alert with secrets blanked, as it may leave the house."""
    return msgspec.structs.replace(alert, title=without_secrets(alert.title), text=without_secrets(alert.text))


def _stale(told: datetime, now: datetime, again: timedelta) -> bool:
    # A clock that was set back must not silence an alert until it has caught up.
    return abs(now - told) >= again
