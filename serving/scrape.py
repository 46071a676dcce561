"""The metrics over HTTP."""

from __future__ import annotations

from litestar import Controller, Response, get
from litestar.di import NamedDependency
from prometheus_client import CONTENT_TYPE_LATEST
from redis.asyncio import Redis

from serving.chat.activity import Activity
from serving.database import Database
from serving.lifespan import sample
from serving.operations import metrics


class MetricsController(Controller):
    path = "/api/metrics"
    tags = ("operations",)

    @get(summary="Metrics for Prometheus", media_type="text/plain")
    async def metrics(
        self,
        database: NamedDependency[Database],
        redis: NamedDependency[Redis],
        activity: NamedDependency[Activity],
    ) -> Response[bytes]:
        """Prometheus text over all workers."""
        sample(database, redis.connection_pool, activity)  # type: ignore[arg-type]
        return Response(metrics.exposition(await activity.count()), headers={"content-type": CONTENT_TYPE_LATEST})
