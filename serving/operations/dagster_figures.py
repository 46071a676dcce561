"""Dagster's state for Prometheus, read from its own database: it is told when its daemon is not there to tell.

What is counted is what `orchestration/alarms/conditions.py` makes alerts of.
"""

from __future__ import annotations

from typing import Any

import psycopg
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from zhiyun.settings import AlertSettings

_SECONDS = 2

_HEARTBEATS = "SELECT daemon_type, extract(epoch FROM timestamp)::float8 FROM daemon_heartbeats"
# A name of an earlier code location may be there too: the row that changed last counts.
_INSTIGATORS = """
SELECT DISTINCT ON (2, 1) instigator_body::jsonb #>> '{origin,job_name}', lower(instigator_type), status = 'STOPPED',
       (SELECT extract(epoch FROM max(timestamp))::float8 FROM job_ticks WHERE job_ticks.selector_id = instigators.selector_id)
FROM instigators WHERE instigator_type IN ('SCHEDULE', 'SENSOR') ORDER BY 2, 1, update_timestamp DESC
"""
_ENDED = """
SELECT DISTINCT ON (pipeline_name) pipeline_name, status = 'FAILURE', coalesce(end_time, 0)
FROM runs WHERE status IN ('SUCCESS', 'FAILURE') AND pipeline_name NOT LIKE '\\_\\_%' ORDER BY pipeline_name, id DESC
"""
_SILENT = """
SELECT count(*) FROM runs WHERE status IN ('STARTED', 'STARTING', 'CANCELING') AND coalesce(
    (SELECT max(timestamp) FROM event_logs WHERE event_logs.run_id = runs.run_id), update_timestamp
) < now() AT TIME ZONE 'UTC' - make_interval(secs => %s)
"""
_CHECKS = """
SELECT DISTINCT ON (asset_key, check_name) asset_key, check_name, execution_status = 'FAILED',
       coalesce(evaluation_event::jsonb #>> '{dagster_event,event_specific_data,severity,__enum__}', '')
FROM asset_check_executions WHERE execution_status IN ('SUCCEEDED', 'FAILED') ORDER BY asset_key, check_name, id DESC
"""


async def dagster_figures(url: str, settings: AlertSettings) -> list[Metric]:
    """The families; `zhiyun_dagster_up` is 0, and nothing else is told, where DAGSTER_DATABASE_URL cannot be asked."""
    up = GaugeMetricFamily("zhiyun_dagster_up", "Whether Dagster's database could be asked.")
    try:
        async with await psycopg.AsyncConnection.connect(
            url,
            autocommit=True,
            connect_timeout=_SECONDS,
            application_name="zhiyun-metrics",
            options=f"-c statement_timeout={_SECONDS * 1000}",
        ) as connection:
            found = await _read(connection, settings)
    except psycopg.Error:
        up.add_metric([], 0)
        return [up]
    up.add_metric([], 1)
    return [up, *found]


async def _read(connection: psycopg.AsyncConnection[tuple[Any, ...]], settings: AlertSettings) -> list[Metric]:
    beat = GaugeMetricFamily(
        "zhiyun_dagster_heartbeat_timestamp_seconds",
        "The last sign of life of a part of the daemon.",
        labels=["daemon"],
    )
    off = GaugeMetricFamily(
        "zhiyun_dagster_switched_off", "Whether a schedule or sensor is switched off.", labels=["name", "type"]
    )
    tick = GaugeMetricFamily(
        "zhiyun_dagster_tick_timestamp_seconds", "The last tick of a schedule or sensor.", labels=["name", "type"]
    )
    failed = GaugeMetricFamily(
        "zhiyun_dagster_job_failed", "Whether the last run of a job failed.", labels=["dagster_job"]
    )
    ended = GaugeMetricFamily("zhiyun_dagster_job_ended_timestamp_seconds", "When it ended.", labels=["dagster_job"])
    silent = GaugeMetricFamily(
        "zhiyun_dagster_silent_runs", "Runs in progress that report nothing (ALERT_SILENT_MINUTES)."
    )
    check = GaugeMetricFamily(
        "zhiyun_dagster_check_failed",
        "Whether an asset check's last evaluation failed.",
        labels=["asset", "check", "severity"],
    )
    for daemon, at in await (await connection.execute(_HEARTBEATS)).fetchall():
        beat.add_metric([daemon], at)
    for name, kind, stopped, at in await (await connection.execute(_INSTIGATORS)).fetchall():
        off.add_metric([name, kind], float(stopped))
        if at is not None:
            tick.add_metric([name, kind], at)
    for job, bad, at in await (await connection.execute(_ENDED)).fetchall():
        failed.add_metric([job], float(bad))
        ended.add_metric([job], at)
    row = await (await connection.execute(_SILENT, (settings.silent_minutes * 60,))).fetchone()
    silent.add_metric([], row[0] if row else 0)
    for asset, name, bad, severity in await (await connection.execute(_CHECKS)).fetchall():
        grave = "warning" if severity.endswith("WARN") else "critical"
        check.add_metric([_asset(asset), name, grave], float(bad))
    return [beat, off, tick, failed, ended, silent, check]


def _asset(key: str) -> str:
    """`["a", "b"]`, as Dagster stores a key, is `a/b`."""
    return "/".join(part.strip().strip('"') for part in key.strip("[]").split(","))
