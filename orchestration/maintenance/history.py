"""Dagster's history: runs with their events and logs, and ticks, older than the limit, deleted through Dagster itself.

Dagster has no purge of runs (dagster-io/dagster#4100). Deleting a run erases what its partition looks like in the UI, so
nothing younger than the backup window goes, nor does the run that an asset was last materialized in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from orchestration.maintenance.session import Budget, Say, Stop, never, silent
from zhiyun.settings import BackupSettings, MaintenanceSettings


class ComputeLogs(Protocol):
    """What is needed of Dagster's compute log manager."""

    def delete_logs(self, log_key: Sequence[str] | None = None, prefix: Sequence[str] | None = None) -> None: ...


class Instance(Protocol):
    """What is needed of a DagsterInstance."""

    @property
    def compute_log_manager(self) -> ComputeLogs: ...

    def get_run_records(
        self, filters: Any = None, limit: int | None = None, *, ascending: bool = False, cursor: str | None = None
    ) -> Sequence[Any]: ...

    def get_asset_records(self) -> Sequence[Any]: ...

    def all_instigator_state(self) -> Sequence[Any]: ...

    def delete_run(self, run_id: str) -> None: ...

    def purge_ticks(self, origin_id: str, selector_id: str, before: float) -> None: ...


@dataclass(frozen=True, slots=True)
class History:
    """What was deleted. `kept` counts old runs that an asset was last materialized in; `left` says if more are there."""

    before: datetime
    runs: int
    kept: int
    left: bool
    instigators: int
    problems: tuple[str, ...]
    stopped: bool


def limit(settings: MaintenanceSettings, backups: BackupSettings, now: datetime | None = None) -> datetime:
    """What ended before this may go: MAINTENANCE_HISTORY_DAYS ago, and never within the backup window."""
    days = max(settings.history_days, backups.retention_days + 1)
    return (now or datetime.now(UTC)) - timedelta(days=days)


def dagster_history(
    instance: Instance,
    settings: MaintenanceSettings,
    before: datetime,
    old_runs: object,
    *,
    stop: Stop = never,
    say: Say = silent,
) -> History:
    """Delete runs that ended before `before`, the oldest first, and ticks.

    `old_runs` is the RunsFilter of those runs (this module does not know Dagster). Each run goes by itself, so that this
    may be broken off anywhere.
    """
    needed = _needed(instance)
    budget = Budget(settings.history_minutes * 60)
    runs, kept, problems = 0, 0, list[str]()
    last: str | None = None
    stopped = left = False
    while not (stopped or left):
        records = instance.get_run_records(old_runs, settings.history_batch, ascending=True, cursor=last)
        batch: list[str] = [record.dagster_run.run_id for record in records]
        if not batch:
            break
        for run_id in batch:
            if run_id in needed:
                kept, last = kept + 1, run_id
                continue
            stopped, left = stop(), not budget.left
            if stopped or left:
                break
            problem = _delete(instance, run_id)
            if problem:  # it stays in the list, so that the search has to go on behind it
                problems.append(problem)
                last = run_id
            else:
                runs += 1
        say(f"{runs} runs that ended before {before:%Y-%m-%d} deleted")
    purged = 0
    for state in () if stopped else instance.all_instigator_state():
        if stopped := stop():
            break
        instance.purge_ticks(state.instigator_origin_id, state.selector_id, before.timestamp())
        purged += 1
    return History(before, runs, kept, stopped or left, purged, tuple(problems), stopped)


def _needed(instance: Instance) -> set[str]:
    """Runs in which an asset was last materialized: without them it would look as if it never was."""
    last = [record.asset_entry.last_materialization for record in instance.get_asset_records()]
    return {materialization.run_id for materialization in last if materialization}


def _delete(instance: Instance, run_id: str) -> str:
    """Logs first: once the run is gone, nothing says that they are there."""
    try:
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        instance.delete_run(run_id)
    except Exception as error:  # one run that cannot be deleted does not keep the others
        return (
            f"run {run_id} could not be deleted: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        )
    return ""
