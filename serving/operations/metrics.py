"""Metrics for Prometheus under the manual's names (section 1.2), correct over several worker processes.

With PROMETHEUS_MULTIPROC_DIR set, each worker keeps its numbers in files there and whichever worker is
scraped adds them up (prometheus_client's multiprocess mode). `serving.__main__` sets it when there are
several workers.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

MULTIPROC_DIR = "PROMETHEUS_MULTIPROC_DIR"

REQUESTS = Counter("http_requests_total", "HTTP requests.", ["method", "path", "status"])
REQUEST_TIME = Histogram(
    "http_request_duration_seconds",
    "Seconds from a request to the end of its response.",
    ["method", "path"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
MESSAGE_TIME = Histogram(
    "message_processing_time",
    "Seconds from a customer's message to the end of its answer.",
    ["mode"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
LLM_TIME = Histogram(
    "llm_request_duration",
    "Seconds of a call of the language model, retry included.",
    ["outcome"],
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120),
)
EMBEDDING_TIME = Histogram(
    "embedding_request_duration",
    "Seconds to embed a question.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
SEARCH_TIME = Histogram(
    "search_request_duration",
    "Seconds of a search in the vector store.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
ANSWERS = Counter("answers_total", "Answers given, by how they were made.", ["mode"])
MESSAGES_DROPPED = Counter("stored_messages_dropped_total", "Messages that were answered but could not be stored.")
MESSAGES_WAITING = Gauge("stored_messages_waiting", "Messages that wait to be stored.", multiprocess_mode="livesum")
ACTIVE = Gauge(
    "active_conversations",
    "Distinct conversations with a message within 30 minutes, over all workers.",
    multiprocess_mode="livesum",
)
DATABASE_POOL = {
    name: Gauge(f"database_pool_{name}", f"PostgreSQL connections: {meaning}", multiprocess_mode="livesum")
    for name, meaning in {
        "size": "open.",
        "idle": "open and unused.",
        "waiting": "callers that wait for one.",
        "min": "kept open (DATABASE_POOL_MIN for each worker).",
        "max": "opened at most (DATABASE_POOL_MAX for each worker).",
    }.items()
}
REDIS_POOL = {
    name: Gauge(f"redis_pool_{name}", f"Redis connections: {meaning}", multiprocess_mode="livesum")
    for name, meaning in {
        "in_use": "in use.",
        "idle": "open and unused.",
        "max_idle": "kept unused at most (REDIS_POOL_IDLE for each worker).",
        "max": "opened at most (REDIS_POOL_MAX for each worker).",
    }.items()
}


class _WithActive(Collector):
    """Puts the number of active conversations that all workers share in place of the sum of theirs."""

    def __init__(self, inner: Collector, active: int) -> None:
        self._inner = inner
        self._active = active

    def collect(self) -> Iterable[Metric]:
        for metric in self._inner.collect():
            if metric.name == "active_conversations":
                yield GaugeMetricFamily(metric.name, metric.documentation, value=self._active)
            else:
                yield metric


def exposition(active: int | None) -> bytes:
    """The metrics of all workers as text. `active`: conversations over all workers, None if unknown."""
    registry = CollectorRegistry()
    inner: Collector = REGISTRY
    if folder := os.environ.get(MULTIPROC_DIR):
        _forget_dead_gauges(Path(folder))
        inner = MultiProcessCollector(None, folder)  # type: ignore[no-untyped-call]
    registry.register(_WithActive(inner, active) if active is not None else inner)
    return generate_latest(registry)


def _forget_dead_gauges(folder: Path) -> None:
    """Gauges of workers that were killed no longer count; their counters do."""
    for file in folder.glob("gauge_live*_*.db"):
        pid = file.stem.rpartition("_")[2]
        if pid.isdigit() and not _runs(int(pid)):
            file.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
