"""What is wrong with the backups, for people who do not look: conditions over the points.

Conditions come from the stores alone, so a night is missed whether a run failed, never started or nobody knew of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from orchestration.alarms.alert import Alert
from orchestration.backups.points.catalogue import Point, merge, newest_verified
from orchestration.backups.units import age_text
from zhiyun.settings import BackupSettings

_AHEAD = timedelta(days=1)  # a clock may be wrong by so much
GRACE = timedelta(minutes=60)
"""So long a night may take to become a point, and a point to be verified and copied."""


class Night(msgspec.Struct, frozen=True):
    """A night that BACKUP_CRON asked for: its point's id, and when it was due."""

    id: str
    due: datetime


def conditions(
    stores: Mapping[str, Sequence[Point] | str],
    now: datetime,
    settings: BackupSettings,
    nights: Sequence[Night],
    watching_since: datetime,
) -> list[Alert]:
    """What is wrong now, the worst first.

    `stores` are the points of each store, the primary first; a text says why a store could not be listed. Nothing was
    expected before `watching_since`, when the platform started to look: a new installation owes no night.
    """
    known = {name: _of_now(there, now) for name, there in stores.items() if not isinstance(there, str)}
    found = [
        Alert(
            f"store-unreachable/{name}",
            "critical",
            f"The backup store {name} cannot be read",
            f"{reason} Nothing is known about its recovery points; see BACKUP_STORES and S3_ENDPOINT_URL.",
            stores=(name,),
            blind=True,
        )
        for name, reason in stores.items()
        if isinstance(reason, str)
    ]
    found += [
        alert for name, there in stores.items() if not isinstance(there, str) for alert in _future(name, there, now)
    ]
    primary = next(iter(stores), "")
    if primary in known:
        found += _missing_night(known[primary], now, nights, watching_since, primary)
    if len(known) == len(stores):  # a store that cannot be seen may have a newer one
        found += _too_old(known, now, settings, watching_since)
    for name, there in known.items():
        found += _failed(name, there)
        found += _unverified(name, there, now)
        if name != primary and primary in known:
            found += _not_copied(name, there, known[primary], primary, now)
    return sorted(found, key=lambda alert: (alert.severity != "critical", alert.key))


def _of_now(there: Sequence[Point], now: datetime) -> list[Point]:
    """The points that can be believed: one made tomorrow would look new for ever."""
    return [point for point in there if point.made_at <= now + _AHEAD]


def _future(name: str, there: Sequence[Point], now: datetime) -> list[Alert]:
    ahead = sorted(point.id for point in there if point.made_at > now + _AHEAD)
    if not ahead:
        return []
    return [
        Alert(
            f"clock-wrong/{name}",
            "warning",
            f"{name} has a recovery point of the future",
            f"{ahead[-1]} was made in the future: this machine's clock is wrong, or was. It counts for nothing.",
            stores=(name,),
        )
    ]


def _missing_night(
    there: Sequence[Point], now: datetime, nights: Sequence[Night], watching_since: datetime, primary: str
) -> list[Alert]:
    over = [night for night in nights if night.due + GRACE <= now and night.due >= watching_since]
    missing: list[Night] = []
    for night in sorted(over, key=lambda night: night.due, reverse=True):
        # A point that somebody made since is as good.
        if any(p.id == night.id or (p.state != "failed" and p.made_at >= night.due) for p in there):
            break
        missing.append(night)
    if not missing:
        return []
    more = f" {len(missing)} nights in a row are missing." if len(missing) > 1 else ""
    return [
        Alert(
            "night-missing",
            "critical",
            f"No recovery point was made in the night of {missing[0].id}",
            f"It was due at {missing[0].due.isoformat(timespec='minutes')} and is not in {primary}; no failure was written "
            f"down either, so most likely no run was started: see whether the Dagster daemon is up.{more} "
            "`zhiyun backup now` makes one.",
            stores=(primary,),
        )
    ]


def _too_old(
    stores: Mapping[str, Sequence[Point]], now: datetime, settings: BackupSettings, watching_since: datetime
) -> list[Alert]:
    best = newest_verified(merge(stores.values()))
    limit = timedelta(hours=settings.rpo_hours)
    if now - (best.made_at if best else watching_since) <= limit:
        return []
    have = (
        f"The newest verified one, {best.id}, was made {age_text(now - best.made_at)} ago"
        if best
        else "There is no verified one at all"
    )
    return [
        Alert(
            "rpo",
            "critical",
            f"No verified recovery point of the last {settings.rpo_hours:g} hours",
            f"{have}. What came since would be lost (BACKUP_RPO_HOURS={settings.rpo_hours:g}).",
            stores=tuple(stores),
        )
    ]


def _failed(name: str, there: Sequence[Point]) -> list[Alert]:
    """The newest failure, if no verified point came after it."""
    good = newest_verified(there)
    failed = [point for point in there if point.state == "failed" and (not good or point.made_at > good.made_at)]
    if not failed:
        return []
    newest = max(failed, key=lambda point: point.made_at)
    more = f" {len(failed)} failed since the last verified one." if len(failed) > 1 else ""
    return [
        Alert(
            f"point-failed/{name}",
            "critical",
            f"Recovery point {newest.id} in {name} failed",
            f"{newest.reason or 'No reason is known.'}{more}",
            stores=(name,),
        )
    ]


def _unverified(name: str, there: Sequence[Point], now: datetime) -> list[Alert]:
    """The newest point, if it was committed an hour ago and nobody has read it back."""
    complete = [point for point in there if point.manifest or point.state != "failed"]
    newest = max(complete, key=lambda point: point.made_at, default=None)
    if newest is None or newest.state != "complete" or now - (newest.committed_at or newest.made_at) <= GRACE:
        return []
    age = age_text(now - (newest.committed_at or newest.made_at))
    return [
        Alert(
            f"point-unverified/{name}",
            "warning",
            f"Recovery point {newest.id} in {name} is not verified",
            f"It was written {age} ago and has not been read back. `zhiyun backup verify {newest.id}` does that.",
            stores=(name,),
        )
    ]


def _not_copied(
    name: str, there: Sequence[Point], in_primary: Sequence[Point], primary: str, now: datetime
) -> list[Alert]:
    wanted = newest_verified(in_primary)
    if wanted is None or now - (wanted.verified_at or wanted.made_at) <= GRACE:
        return []
    copy = next((point for point in there if point.id == wanted.id and point.committed_at), None)
    if copy:
        return []  # whether it is good is told of it as of any other point
    return [
        Alert(
            f"copy-missing/{name}",
            "critical",
            f"Recovery point {wanted.id} has no copy in {name}",
            f"It is verified in {primary} since {age_text(now - (wanted.verified_at or wanted.made_at))}, and lost if "
            f"{primary} is lost.",
            stores=(primary, name),
        )
    ]
