"""Capacity's figures for Prometheus, from operations.capacity_samples: the last sample of each thing."""

from __future__ import annotations

from typing import Any

import psycopg
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from zhiyun.settings import CapacitySettings

_BYTES_OF_SIZES = 40  # the largest; the rest is in the Dagster UI

# Things that are measured no more (a volume that was renamed, a table that was dropped) go after two days.
_LATEST = """
SELECT DISTINCT ON (kind, name) kind, name, used, total, facts, extract(epoch FROM taken_at)::float8
FROM operations.capacity_samples WHERE taken_at > now() - interval '2 days' ORDER BY kind, name, taken_at DESC
"""


async def capacity_figures(
    connection: psycopg.AsyncConnection[tuple[Any, ...]], settings: CapacitySettings
) -> list[Metric]:
    """The families; without samples only the limits. Raises what psycopg raises."""
    ratio = GaugeMetricFamily(
        "zhiyun_disk_used_ratio",
        "How full the disk of a volume is, of bytes or of inodes.",
        labels=["volume", "filesystem"],
    )
    free = GaugeMetricFamily("zhiyun_disk_free_bytes", "Room on the disk of a volume.", labels=["volume", "filesystem"])
    full = GaugeMetricFamily(
        "zhiyun_disk_days_to_full",
        "Days until the disk is full, where it surely fills.",
        labels=["volume", "filesystem"],
    )
    memory = GaugeMetricFamily("zhiyun_memory_used_bytes", "Memory that a service uses.", labels=["service"])
    limit = GaugeMetricFamily("zhiyun_memory_limit_bytes", "Memory that a service may use.", labels=["service"])
    taken = GaugeMetricFamily("zhiyun_connections_used", "Connections of a server that are taken.", labels=["server"])
    offered = GaugeMetricFamily("zhiyun_connections_limit", "Connections that a server offers.", labels=["server"])
    size = GaugeMetricFamily("zhiyun_storage_bytes", "What the largest things take of the room.", labels=["name"])
    at = GaugeMetricFamily("zhiyun_capacity_sample_timestamp_seconds", "When it was last measured.", labels=["kind"])
    newest: dict[str, float] = {}
    sizes: list[tuple[int, str]] = []
    for kind, name, used, total, facts, taken_at in await (await connection.execute(_LATEST)).fetchall():
        newest[kind] = max(newest.get(kind, 0.0), taken_at)
        if kind == "disk":
            labels = [name, facts.get("filesystem", name)]
            ratio.add_metric(labels, facts.get("percent", 100 * used / total if total else 0) / 100)
            free.add_metric(labels, (total or used) - used)
            if "days_to_full" in facts:
                full.add_metric(labels, facts["days_to_full"])
        elif kind == "memory":
            memory.add_metric([name], used)
            if total:
                limit.add_metric([name], total)
        elif kind == "connections":
            taken.add_metric([name], used)
            if total:
                offered.add_metric([name], total)
        else:
            sizes.append((used, name))
    for used, name in sorted(sizes, reverse=True)[:_BYTES_OF_SIZES]:
        size.add_metric([name], used)
    for kind, taken_at in newest.items():
        at.add_metric([kind], taken_at)
    return [ratio, free, full, memory, limit, taken, offered, size, at, *limits(settings)]


def limits(settings: CapacitySettings) -> list[Metric]:
    """The thresholds of the settings, so that alert rules need not repeat them."""
    found = GaugeMetricFamily(
        "zhiyun_capacity_limit_ratio", "From where on it is too much (CAPACITY_…_PERCENT).", labels=["kind", "level"]
    )
    for kind, level, percent in (
        ("disk", "warning", settings.warning_percent),
        ("disk", "serious", settings.serious_percent),
        ("disk", "critical", settings.critical_percent),
        ("memory", "warning", settings.memory_percent),
        ("connections", "warning", settings.connections_percent),
    ):
        found.add_metric([kind, level], percent / 100)
    days = GaugeMetricFamily(
        "zhiyun_disk_days_to_full_limit", "Fewer days are a warning (CAPACITY_FULL_DAYS).", value=settings.full_days
    )
    return [found, days]
