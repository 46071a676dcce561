"""Recovery points and trial restores for Prometheus, from the record in the database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from zhiyun.settings import BackupSettings

_STATES = ("complete", "verified", "failed")
_READ = """
    SELECT
        (SELECT jsonb_object_agg(state, number) FROM
            (SELECT state, count(*) AS number FROM operations.recovery_points GROUP BY state) counted),
        extract(epoch FROM verified.made_at), verified.size_bytes, made.seconds,
        drill.seconds, drill.passed, extract(epoch FROM drill.at)
    FROM (SELECT) one
    LEFT JOIN (SELECT made_at, size_bytes FROM operations.recovery_points WHERE state = 'verified'
               ORDER BY made_at DESC NULLS LAST LIMIT 1) verified ON true
    LEFT JOIN (SELECT seconds FROM operations.recovery_points WHERE state <> 'failed'
               ORDER BY made_at DESC NULLS LAST LIMIT 1) made ON true
    LEFT JOIN (SELECT seconds, passed, at FROM operations.restore_drills ORDER BY at DESC LIMIT 1) drill ON true
"""


async def recovery_figures(connection: psycopg.AsyncConnection[tuple[Any, ...]]) -> list[Metric]:
    """The families. Raises what psycopg raises."""
    row = await (await connection.execute(_READ)).fetchone()
    return list(_told(row)) if row else []


def recovery_limits(settings: BackupSettings) -> list[Metric]:
    """The thresholds of the settings, so that alert rules need not repeat them."""
    return [
        _gauge(
            "recovery_point_rpo_limit_seconds",
            "The newest verified recovery point may be so old (BACKUP_RPO_HOURS).",
            settings.rpo_hours * 3600,
        )
    ]


def _told(row: tuple[Any, ...]) -> Iterator[Metric]:
    counts, verified_at, size, backup_seconds, drill_seconds, drill_passed, drill_at = row
    points = GaugeMetricFamily("zhiyun_recovery_points", "Recovery points by state.", labels=["state"])
    for state in _STATES:
        points.add_metric([state], float((counts or {}).get(state, 0)))
    yield points
    # Without any there is 0 and not nothing: an alert on its age then fires by itself.
    yield _gauge(
        "recovery_point_newest_verified_timestamp_seconds",
        "The moment that the newest verified recovery point holds; 0 if there is none.",
        float(verified_at or 0),
    )
    if size is not None:
        yield _gauge("recovery_point_newest_size_bytes", "Size of the newest verified recovery point.", float(size))
    if backup_seconds is not None:
        yield _gauge("backup_seconds", "Seconds that the newest recovery point took to make.", float(backup_seconds))
    if drill_at is not None:
        yield _gauge("restore_drill_seconds", "Seconds that the last trial restore took.", float(drill_seconds))
        yield _gauge("restore_drill_passed", "Whether the last trial restore passed.", float(drill_passed))
        yield _gauge("restore_drill_timestamp_seconds", "When the last trial restore was.", float(drill_at))


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"zhiyun_{name}", about, value=value)
