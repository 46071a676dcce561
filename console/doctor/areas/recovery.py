"""Recovery points: whether there is a good one, whether the stores can be read, and what the last trial restore showed.

Only the stores are needed for the points, so this works when everything else is down.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import psycopg

from console.doctor.areas.postgresql import impatient
from console.doctor.kinds import Finding, Kind, Severity, Unwell
from console.doctor.site import Site
from knowledge.database import DatabaseUnavailable, connect
from objects.store import ObjectStoreError
from orchestration.alarms.alert import Alert
from orchestration.backups.installation import installation
from orchestration.backups.points import alerts, catalogue
from orchestration.backups.points.catalogue import Point
from orchestration.backups.recovery_point import BackupError
from orchestration.backups.units import age_text, size_text
from zhiyun.settings import BackupSettings, SettingsError, load

WELL = Kind(
    "recovery.well", "ok",
    ("The newest verified recovery point is {point}, {age} old, {size}; {count} are kept", "最新的已验证恢复点为 {point}，{age} 前，{size}；共保留 {count} 个"),
)  # fmt: skip
DRILLED = Kind(
    "recovery.drill_well", "ok",
    ("The last trial restore, of {point}, passed {age} ago in {seconds} s", "最近一次恢复演练（{point}）{age} 前通过，用时 {seconds} 秒"),
)  # fmt: skip
CANNOT = Kind(
    "recovery.cannot_back_up", "error",
    ("Backups cannot run: {reason}", "无法备份：{reason}"),
    ("Correct the setting that it names: `zhiyun configuration`.", "改正其中提到的设置：`zhiyun configuration`。"),
)  # fmt: skip
STORE = Kind(
    "recovery.store_unreadable", "error",
    ("The backup store {store} cannot be read: {reason}", "备份存储 {store} 无法读取：{reason}"),
    ("Check BACKUP_STORES and S3_*: `zhiyun backup list`.", "检查 BACKUP_STORES 与 S3_*：`zhiyun backup list`。"),
)  # fmt: skip
NONE = Kind(
    "recovery.no_point", "warning",
    ("There is no verified recovery point in {stores}.", "{stores} 中没有已验证的恢复点。"),
    ("`zhiyun backup now` makes one; the schedule does at night.", "`zhiyun backup now` 立即创建；定时任务每晚也会创建。"),
)  # fmt: skip
OLD = Kind(
    "recovery.point_too_old", "error",
    ("{detail}", "超过 BACKUP_RPO_HOURS 没有新的已验证恢复点：{detail}"),
    ("`zhiyun backup now`; then see why the nights made none: the job nightly_backup in the Dagster UI.",
     "`zhiyun backup now`；再查看夜间为何没有：Dagster 界面的 nightly_backup。"),
)  # fmt: skip
POINT_FAILED = Kind(
    "recovery.point_failed", "error",
    ("{title}: {detail}", "恢复点失败（{title}）：{detail}"),
    ("Mend what it names, then `zhiyun backup now`.", "解决其中提到的问题，然后 `zhiyun backup now`。"),
)  # fmt: skip
UNVERIFIED = Kind(
    "recovery.point_unverified", "warning",
    ("{title}: {detail}", "恢复点尚未验证（{title}）：{detail}"),
    ("`zhiyun backup verify`", "`zhiyun backup verify`"),
)  # fmt: skip
COPY = Kind(
    "recovery.copy_missing", "error",
    ("{title}: {detail}", "恢复点缺少副本（{title}）：{detail}"),
    ("See that the store can be written to, then `zhiyun backup now`.", "确认该存储可写，然后 `zhiyun backup now`。"),
)  # fmt: skip
CLOCK = Kind(
    "recovery.clock", "warning",
    ("{title}: {detail}", "存在来自未来的恢复点（{title}）：{detail}"),
    ("Set the clock: `timedatectl set-ntp true`.", "校准时钟：`timedatectl set-ntp true`。"),
)  # fmt: skip
NO_DRILL = Kind(
    "recovery.no_drill", "note",
    ("No trial restore was made yet; the schedule makes one each week.", "尚未做过恢复演练；定时任务每周一次。"),
    ("`zhiyun drill`", "`zhiyun drill`"),
)  # fmt: skip
OLD_DRILL = Kind(
    "recovery.drill_too_old", "warning",
    ("The last trial restore was {age} ago.", "最近一次恢复演练在 {age} 前。"),
    ("`zhiyun drill`; and see the schedule of restore_drill in the Dagster UI.", "`zhiyun drill`；并查看 Dagster 界面中 restore_drill 的定时任务。"),
)  # fmt: skip
DRILL_FAILED = Kind(
    "recovery.drill_failed", "error",
    ("The last trial restore, of {point} {age} ago, failed: {problems}", "最近一次恢复演练（{point}，{age} 前）失败：{problems}"),
    ("`zhiyun backup verify`, then `zhiyun backup now` and `zhiyun drill`.", "`zhiyun backup verify`，然后 `zhiyun backup now` 和 `zhiyun drill`。"),
)  # fmt: skip

_BY_ALERT = {
    "rpo": OLD, "point-failed": POINT_FAILED, "point-unverified": UNVERIFIED, "copy-missing": COPY, "clock-wrong": CLOCK,
}  # fmt: skip


def check(site: Site) -> Iterator[Finding]:
    """Everything about BACKUP_STORES and the record of drills."""
    if site.embedded and not site.place.home.exists() and not load(BackupSettings).stores:
        return  # it has never run, and owes nothing
    try:
        inst = installation()
    except (BackupError, SettingsError) as error:
        raise Unwell(CANNOT(reason=error)) from None
    now, settings = datetime.now(UTC), load(BackupSettings)
    stores: dict[str, Sequence[Point] | str] = {}
    for store in inst.stores:
        try:
            stores[store.name] = catalogue.points(store)
        except ObjectStoreError as error:
            stores[store.name] = str(error)
            yield STORE(store=store.name, reason=error)
    # The nights that are owed are the sensor's matter: it knows since when somebody looks.
    for alert in alerts.conditions(stores, now, settings, (), now):
        if kind := _BY_ALERT.get(alert.key.partition("/")[0]):
            yield kind(_severity(alert), title=alert.title, detail=alert.text)
    readable = [found for found in stores.values() if not isinstance(found, str)]
    best = catalogue.newest_verified(catalogue.merge(readable)) if readable else None
    if best:
        kept = sum(point.state == "verified" for point in catalogue.merge(readable))
        yield WELL(point=best.id, age=age_text(now - best.made_at), size=size_text(best.size), count=kept)
    elif readable:
        yield NONE(stores=", ".join(stores))
    if site.reachable:
        yield from _drill(now)


def _severity(alert: Alert) -> Severity:
    return "error" if alert.severity == "critical" else "warning"


def _drill(now: datetime) -> Iterator[Finding]:
    """The last trial restore, of the record; whether PostgreSQL answers is told elsewhere."""
    try:
        with connect(impatient(), "zhiyun doctor") as connection:
            row = connection.execute(
                "SELECT point, at, seconds, passed, details->'problems' FROM operations.restore_drills ORDER BY at DESC LIMIT 1"
            ).fetchone()
    except (DatabaseUnavailable, psycopg.Error):  # and whether its tables are there
        return
    if row is None:
        yield NO_DRILL()
        return
    point, at, seconds, passed, problems = row
    age = age_text(now - at)
    if not passed:
        yield DRILL_FAILED(point=point, age=age, problems="; ".join(problems or ()) or "it does not say why")
    elif now - at > _drill_every(load(BackupSettings).drill_cron):
        yield OLD_DRILL(age=age)
    else:
        yield DRILLED(point=point, age=age, seconds=f"{seconds:.0f}")


def _drill_every(cron: str) -> timedelta:
    """How long after a trial the next one has to be there: by month, by week or by day, as the cron line has it."""
    fields = cron.split()
    if len(fields) != 5 or fields[2] != "*" or fields[3] != "*":
        return timedelta(days=35)
    return timedelta(days=8) if fields[4] != "*" else timedelta(days=2)
