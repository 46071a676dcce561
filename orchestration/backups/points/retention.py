"""Which recovery points are kept, and deleting the others.

Time is counted back from the newest verified point and never from the clock: when backups fail for a month, nothing
expires, and a clock that jumps deletes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from objects.store import ObjectStore, ObjectStoreError
from orchestration.backups.points.catalogue import POINTS, Point, own_objects, points
from orchestration.backups.points.orphans import GRACE, Leftovers, leftovers
from orchestration.backups.recovery_point import BackupError, manifest_key
from orchestration.backups.streams.encryption import Keys
from orchestration.backups.units import size_text
from zhiyun.logs import without_secrets
from zhiyun.settings import BackupSettings

_AHEAD = timedelta(days=1)  # a point made so far in the future tells of a clock that was wrong, not of progress

_CENTURY = 36_500  # days; more would be before the calendar begins


@dataclass(frozen=True, slots=True)
class Policy:
    """How long points are kept (BACKUP_RETENTION_DAYS, BACKUP_KEEP_MINIMUM, _WEEKLY, _MONTHLY, BACKUP_TIMEZONE)."""

    days: int = 30
    minimum: int = 3  # verified points that are kept whatever their age
    weekly: int = 0  # beyond `days`: the last verified point of each of so many ISO weeks
    monthly: int = 0
    timezone: str = "Asia/Shanghai"

    @staticmethod
    def of(settings: BackupSettings) -> Policy:
        """What the settings say."""
        return Policy(
            settings.retention_days,
            settings.keep_minimum,
            settings.keep_weekly,
            settings.keep_monthly,
            settings.timezone,
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be kept and what would go, each with why; `frozen` says why nothing may go."""

    keep: list[tuple[Point, str]]
    expire: list[tuple[Point, str]]
    frozen: str | None = None


def plan(points: Iterable[Point], policy: Policy, now: datetime) -> Plan:
    """Judge the points of one store. Pure: it reads no clock and no store.

    `now` only tells points of the future, which are kept and count for nothing else.
    """
    there = sorted(points, key=lambda point: (point.made_at, point.id), reverse=True)
    verified = [point for point in there if point.state == "verified" and point.made_at <= now + _AHEAD]
    frozen = _frozen(there, verified)
    if frozen:
        return Plan([(point, "nothing expires now") for point in there], [], frozen)
    anchor = verified[0]
    oldest = anchor.made_at - timedelta(days=min(policy.days, _CENTURY))
    why: dict[str, str] = {}
    for point, reason in _long_kept(verified, policy, oldest):
        why.setdefault(point.id, reason)
    why |= {point.id: f"one of the {policy.minimum} newest verified" for point in verified[: policy.minimum]}
    for point in there:
        if point.made_at > now + _AHEAD:
            why[point.id] = "made in the future: a clock is wrong, or was"
        elif point.later:
            why[point.id] = "written by a later version"
        elif point.made_at >= oldest:
            why[point.id] = f"within {policy.days} days before {anchor.id}"
    gone = f"older than {policy.days} days before {anchor.id}, the newest verified point"
    return Plan(
        [(point, why[point.id]) for point in there if point.id in why],
        [(point, gone) for point in there if point.id not in why],
    )


def _frozen(there: Sequence[Point], verified: Sequence[Point]) -> str | None:
    if not verified:
        return "there is no verified recovery point"
    newest = there[0]
    if newest.state == "failed":
        return f"the newest try, {newest.id}, failed: {newest.reason or 'no reason is known'}"
    if newest.state == "complete":
        return f"the newest point, {newest.id}, is not verified"
    return None


def _long_kept(verified: Sequence[Point], policy: Policy, oldest: datetime) -> Iterable[tuple[Point, str]]:
    """The last verified points of weeks and months, of those that are older than the days."""
    zone = ZoneInfo(policy.timezone)
    weeks: dict[object, Point] = {}
    months: dict[object, Point] = {}
    for point in verified:  # newest first, so the first of a week is its last
        local = point.made_at.astimezone(zone)
        weeks.setdefault(local.isocalendar()[:2], point)
        months.setdefault((local.year, local.month), point)
    for kept, count, name in ((weeks, policy.weekly, "week"), (months, policy.monthly, "month")):
        aged = [point for point in kept.values() if point.made_at < oldest]
        for point in aged[:count]:
            yield point, f"the last verified of its {name}"


@dataclass(slots=True)
class Report:
    """What was deleted, or with `dry_run` would be. `problems` are sentences; what stands before them was done."""

    store: str
    dry_run: bool = False
    frozen: str | None = None
    expired: list[str] = field(default_factory=list[str])
    kept: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])  # id and why
    orphans: int = 0
    bytes_freed: int = 0
    broken_writes: int = 0
    node_snapshots: int = 0
    notes: list[str] = field(default_factory=list[str])
    problems: list[str] = field(default_factory=list[str])

    def as_text(self) -> str:
        """Some lines for a terminal or a log."""
        would = "would be " if self.dry_run else ""
        lines = [f"{self.store}: {len(self.kept)} kept, {len(self.expired)} {would}expired"]
        if self.expired:
            lines[0] += f" ({', '.join(self.expired)})"
        lines[0] += f", {self.orphans} leftovers {would}deleted, {size_text(self.bytes_freed)} {would}freed"
        if self.frozen:
            lines.append(f"nothing expires: {self.frozen}")
        if self.broken_writes:
            lines.append(f"{self.broken_writes} broken-off writes removed")
        if self.node_snapshots:
            lines.append(f"{self.node_snapshots} snapshots on the vector store's own disk {would}deleted")
        return "\n".join([*lines, *self.notes, *self.problems])

    def as_markdown(self) -> str:
        """The same for the Dagster UI, with each point that stays and why."""
        kept = [f"| {point} | {why} |" for point, why in self.kept]
        table = ["", "| kept | why |", "|---|---|", *kept] if kept else []
        return "\n".join([*(f"- {line}" for line in self.as_text().splitlines()), *table])


def prune(
    store: ObjectStore,
    policy: Policy,
    now: datetime,
    *,
    keys: Keys | None = None,
    dry_run: bool = False,
    frozen: str = "",
    under_way: Collection[str] = (),
    node_sweep: Callable[[bool], int] | None = None,
) -> Report:
    """Delete what has expired in one store, then what belongs to no point. Run it while no backup runs.

    A point goes manifest first: whatever ends this half-way, what is still listed is whole. `frozen` is a reason of the
    caller's why nothing may expire; `under_way` are points that are being made; `node_sweep` deletes old snapshots on
    the vector store's node (told whether it is a dry run) and gives their number. Failures end in `problems`.
    """
    report = Report(store.name, dry_run)
    try:
        there = points(store)
    except ObjectStoreError as error:
        report.frozen = f"{store.url} cannot be listed: {error}"
    else:
        planned = plan(there, policy, now)
        if frozen and not planned.frozen:
            planned = Plan([(point, "nothing expires now") for point in there], [], frozen)
        report.frozen = planned.frozen
        report.kept = [(point.id, why) for point, why in planned.keep]
        try:
            for point, _ in reversed(planned.expire):  # the oldest first
                _delete_point(store, point, report)
            kept = [point for point, _ in planned.keep]
            _delete_leftovers(store, leftovers(store, kept, now, keys, under_way, report.expired), report)
            if not dry_run:
                report.broken_writes = store.sweep(GRACE)
        except (ObjectStoreError, BackupError) as error:
            report.problems.append(f"Stopped there: {error}")
    if node_sweep:
        try:
            report.node_snapshots = node_sweep(dry_run)
        except Exception as error:  # whatever a caller's sweep raises must not hide what was deleted before it
            report.problems.append(f"The vector store's own snapshots were not swept: {without_secrets(str(error))}")
    return report


def prune_all(
    stores: Sequence[ObjectStore],
    policy: Policy,
    now: datetime,
    *,
    keys: Keys | None = None,
    dry_run: bool = False,
    under_way: Collection[str] = (),
    node_sweep: Callable[[bool], int] | None = None,
) -> list[Report]:
    """`prune` for each store; while one of them cannot be listed nothing expires in any, since it may have lost its copies."""
    unlisted: list[str] = []
    for store in stores:
        try:
            next(store.list(POINTS), None)
        except ObjectStoreError as error:
            unlisted.append(f"{store.url} cannot be listed: {error}")
    frozen = "; ".join(unlisted)
    return [
        prune(
            store,
            policy,
            now,
            keys=keys,
            dry_run=dry_run,
            frozen=frozen,
            under_way=under_way,
            node_sweep=None if number else node_sweep,
        )
        for number, store in enumerate(stores)
    ]


def _delete_point(store: ObjectStore, point: Point, report: Report) -> None:
    objects = own_objects(store, point.id)
    if not report.dry_run:
        store.delete([manifest_key(point.id)])
        report.expired.append(point.id)
        store.delete([item.key for item in objects])
    else:
        report.expired.append(point.id)
    report.bytes_freed += sum(item.size for item in objects)


def _delete_leftovers(store: ObjectStore, left: Leftovers, report: Report) -> None:
    if left.note:
        report.notes.append(left.note)
    for batch in left.batches():
        if not report.dry_run:
            store.delete([item.key for item in batch])
        report.orphans += len(batch)
        report.bytes_freed += sum(item.size for item in batch)
