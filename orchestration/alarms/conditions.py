"""What is wrong, from facts about Dagster: failed and silent runs, missed ticks, a stopped daemon, failing checks.

Plain functions: whoever has the facts (a sensor, the metrics, `zhiyun doctor`) comes to the same alerts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from orchestration.alarms.alert import Alert
from zhiyun.settings import AlertSettings


@dataclass(frozen=True)
class EndedRun:
    """The last run of a job that has ended."""

    job: str
    run_id: str
    failed: bool
    ended: datetime
    reason: str = ""
    retried: bool = False  # Dagster has started, or will start, another try


@dataclass(frozen=True)
class RunInProgress:
    """A run that has not ended. `heard` is when it last reported something; a queued one has reported its queueing."""

    job: str
    run_id: str
    queued: bool
    heard: datetime


@dataclass(frozen=True)
class Clockwork:
    """A schedule or sensor. `expected` is when its last tick should have come; None where that cannot be said."""

    name: str
    kind: Literal["schedule", "sensor"]
    should_run: bool  # it is RUNNING by default
    runs: bool
    expected: datetime | None = None
    last_tick: datetime | None = None
    tick_failed: str = ""  # why the last tick failed


@dataclass(frozen=True)
class Heartbeat:
    """The last sign of life of one of the daemon's parts that this instance needs; None if there was none."""

    daemon: str
    at: datetime | None


@dataclass(frozen=True)
class FailedCheck:
    """An asset check whose last evaluation did not pass."""

    asset: str
    check: str
    grave: bool  # ERROR, and not WARN
    text: str = ""


@dataclass(frozen=True)
class Watch:
    """Since when somebody looks: `first` ever, `awake` without a gap. What came before nobody can have missed."""

    first: datetime
    awake: datetime


def of_runs(ended: Iterable[EndedRun]) -> list[Alert]:
    """A job whose last run failed; it is over when a later run succeeds."""
    return [
        Alert(
            f"run/{run.job}", "critical", f"Dagster job {run.job} failed",
            f"Run {run.run_id} failed at {_at(run.ended)}: {run.reason or 'no reason was recorded'}",
        )
        for run in ended
        if run.failed and not run.retried
    ]  # fmt: skip


def of_silence(runs: Iterable[RunInProgress], settings: AlertSettings, now: datetime) -> list[Alert]:
    """A run whose process may be gone: it is not ended, and reports nothing. In the queue it may wait four times as long."""
    silent = timedelta(minutes=settings.silent_minutes)
    found: list[Alert] = []
    for run in runs:
        if now - run.heard <= (4 * silent if run.queued else silent):
            continue
        what = "waits in the queue" if run.queued else "reports nothing"
        found.append(
            Alert(
                f"silent/{run.run_id}", "critical", f"Dagster run {run.run_id[:8]} of {run.job} {what}",
                f"Nothing was heard of it since {_at(run.heard)} (ALERT_SILENT_MINUTES={settings.silent_minutes:g}). Its process "
                "may have been killed: look at it in the Dagster UI, and terminate it there if it does not go on.",
            )
        )  # fmt: skip
    return found


def of_clockwork(works: Iterable[Clockwork], settings: AlertSettings, watch: Watch, now: datetime) -> list[Alert]:
    """Schedules and sensors that are switched off, whose tick did not come, or whose last tick failed."""
    grace = timedelta(minutes=settings.tick_minutes)
    found: list[Alert] = []
    for work in works:
        title = f"Dagster {work.kind} {work.name}"
        if work.should_run and not work.runs:
            found.append(
                Alert(
                    f"off/{work.name}", "critical", f"{title} is switched off",
                    "It runs by default, and what it starts is not done now. Switch it on under Automation in the Dagster UI.",
                )
            )  # fmt: skip
            continue
        if not work.runs:
            continue
        if work.tick_failed:
            found.append(Alert(f"tick/{work.name}", "critical", f"{title}: its last tick failed", work.tick_failed))
        if work.expected is None or work.expected < watch.first:
            continue
        missed = work.last_tick is None or work.last_tick < work.expected
        if missed and now > max(work.expected, watch.awake) + grace:
            last = f"the last one came at {_at(work.last_tick)}" if work.last_tick else "none ever came"
            found.append(
                Alert(
                    f"missed/{work.name}", "critical", f"{title} missed its tick",
                    f"A tick was due at {_at(work.expected)}; {last} (ALERT_TICK_MINUTES={settings.tick_minutes:g}). "
                    "Look whether Dagster's daemon and code server run.",
                )
            )  # fmt: skip
    return found


def of_heartbeats(beats: Iterable[Heartbeat], settings: AlertSettings, watch: Watch, now: datetime) -> list[Alert]:
    """Parts of Dagster's daemon that give no sign of life."""
    bound = timedelta(minutes=settings.heartbeat_minutes)
    stale = [beat for beat in beats if now - max(beat.at or watch.awake, watch.awake) > bound]
    return [
        Alert(
            f"daemon/{beat.daemon}", "critical", f"Dagster's {beat.daemon.lower()} daemon is silent",
            f"Its last sign of life was {_at(beat.at) if beat.at else 'never'} "
            f"(ALERT_HEARTBEAT_MINUTES={settings.heartbeat_minutes:g}). Restart the daemon; its log says why it stopped.",
        )
        for beat in stale
    ]  # fmt: skip


def of_checks(checks: Iterable[FailedCheck]) -> list[Alert]:
    """Asset checks that fail, with the severity that they have."""
    return [
        Alert(
            f"check/{check.asset}/{check.check}", "critical" if check.grave else "warning",
            f"Check {check.check} of {check.asset} fails", check.text,
        )
        for check in checks
    ]  # fmt: skip


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
