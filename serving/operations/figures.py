"""What operations are seen by, for Prometheus: recovery points, capacity, and Dagster, read when they are asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import psycopg
import structlog
from litestar import Controller, Response, get
from litestar.di import NamedDependency
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from serving.configuration import Configuration
from serving.database import Database, DatabaseDown
from serving.operations.capacity_figures import capacity_figures
from serving.operations.capacity_figures import limits as capacity_limits
from serving.operations.dagster_figures import dagster_figures
from serving.operations.recovery import recovery_figures, recovery_limits

_log = structlog.get_logger(__name__)

_READ_SECONDS = 1.5  # for each reading


class Families(Collector):
    """Families of metrics that are there already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


class OperationsMetricsController(Controller):
    path = "/api/metrics/operations"
    tags = ("operations",)

    @get(summary="Recovery points, capacity and Dagster, for Prometheus", media_type="text/plain")
    async def operations(
        self, database: NamedDependency[Database], configuration: NamedDependency[Configuration]
    ) -> Response[bytes]:
        """Prometheus text. `zhiyun_operations_up` is 0 while the database does not tell all; limits are always there."""
        figures = OperationsFigures(database, configuration)
        registry = CollectorRegistry()
        registry.register(Families(await figures.read()))
        return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST})


class OperationsFigures:
    """One scrape. What one reading lacks takes nothing from the others."""

    def __init__(self, database: Database, configuration: Configuration) -> None:
        self._database = database
        self._configuration = configuration
        self._complete = True

    async def read(self) -> list[Metric]:
        """All families."""
        settings = self._configuration
        recovery, capacity, dagster = await asyncio.gather(
            self._from_database(recovery_figures),
            self._from_database(lambda connection: capacity_figures(connection, settings.capacity)),
            dagster_figures(settings.dagster_database_url, settings.alert),
        )
        if not capacity:
            capacity = capacity_limits(settings.capacity)
        up = GaugeMetricFamily(
            "zhiyun_operations_up", "Whether the database told of all operations.", value=float(self._complete)
        )
        return [up, *recovery_limits(settings.backup), *recovery, *capacity, *dagster]

    async def _from_database(self, reading: Any) -> list[Metric]:
        if not self._database.up:  # `watch` keeps that current; a scrape need not wait for it too
            self._complete = False
            return []
        try:
            async with self._database.connection(_READ_SECONDS) as connection:
                return await reading(connection)
        except DatabaseDown:
            pass
        except psycopg.Error as error:  # tables of an older version
            _log.warning("operations_not_read", error=type(error).__name__, sqlstate=error.sqlstate)
        self._complete = False
        return []
