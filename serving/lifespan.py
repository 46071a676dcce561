"""What lives as long as a chat process: its pools and clients, and the tasks in the background."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import httpx
import structlog
from litestar.datastructures import State
from litestar.di import Provide
from qdrant_client import AsyncQdrantClient
from redis.asyncio import BlockingConnectionPool, Redis

from knowledge.models.lexical import tokenize
from knowledge.retrieval.retriever import NoLiveRelease, VectorStoreDown
from serving.chat.activity import Activity
from serving.chat.answering import Answering, ModelUnavailable, Retrieves
from serving.chat.conversations import Conversations, Writer
from serving.chat.dialogue import Dialogue
from serving.chat.llm import Llm
from serving.configuration import Configuration
from serving.database import Database, DatabaseDown
from serving.operations import metrics
from serving.operations.fence import FenceWatch
from serving.operations.health import Health, version
from zhiyun.settings import RedisSettings

_log = structlog.get_logger(__name__)

_SAMPLE_SECONDS = 2.0
_FLUSH_SECONDS = 5.0
_WARM_SECONDS = 5.0

OpenRetriever: TypeAlias = Callable[[Configuration, AsyncQdrantClient], Retrieves]


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that handlers may ask for, by the name of the field."""

    configuration: Configuration
    database: Database
    redis: Redis
    qdrant: AsyncQdrantClient
    activity: Activity
    answering: Answering
    conversations: Conversations
    dialogue: Dialogue
    health: Health
    fence: FenceWatch


class RedisPool(BlockingConnectionPool):
    """A pool that keeps REDIS_POOL_IDLE unused connections (manual, section 3.2); redis-py keeps all."""

    most_idle = 10

    async def release(self, connection: Any) -> None:
        await super().release(connection)
        while len(self._available_connections) > self.most_idle:
            await self._available_connections.pop(0).disconnect()

    def numbers(self) -> dict[str, int]:
        return {
            "in_use": len(self._in_use_connections),
            "idle": len(self._available_connections),
            "max_idle": self.most_idle,
            "max": self.max_connections,
        }


def redis_pool(settings: RedisSettings) -> RedisPool:
    """The pool with the manual's numbers. Nothing is connected yet."""
    pool = RedisPool.from_url(
        settings.url,
        max_connections=settings.pool_max,
        timeout=settings.connect_timeout,
        socket_connect_timeout=settings.connect_timeout,
        socket_timeout=settings.connect_timeout,
        decode_responses=True,
    )
    pool.most_idle = settings.pool_idle
    return pool


@asynccontextmanager
async def open_services(configuration: Configuration, open_retriever: OpenRetriever) -> AsyncIterator[Services]:
    """Open everything without waiting for what is down, and close it again: messages first."""
    async with AsyncExitStack() as stack:
        database = Database(configuration.database)
        await database.pool.open(wait=False)
        with suppress(DatabaseDown):
            await database.probe(1.0)
        stack.push_async_callback(database.pool.close, timeout=2)
        pool = redis_pool(configuration.redis)
        redis = Redis(connection_pool=pool)
        stack.push_async_callback(pool.disconnect)
        qdrant = AsyncQdrantClient(
            url=configuration.qdrant.url,
            api_key=configuration.qdrant.api_key or None,
            timeout=configuration.qdrant.timeout,
            check_compatibility=False,
        )
        stack.push_async_callback(qdrant.close)
        http = await stack.enter_async_context(
            httpx.AsyncClient(limits=httpx.Limits(max_connections=200, max_keepalive_connections=20))
        )
        activity = Activity(redis)
        writer = Writer(database)
        conversations = Conversations(database, activity, writer)
        llm = Llm(configuration.llm, http) if configuration.llm.base_url else None
        retriever = open_retriever(configuration, qdrant)
        threshold = configuration.retrieval.evidence_threshold
        answering = Answering(retriever, llm, configuration.serving, threshold=threshold)
        fence = FenceWatch(redis)
        await fence.look()
        services = Services(
            configuration=configuration,
            database=database,
            redis=redis,
            qdrant=qdrant,
            activity=activity,
            answering=answering,
            conversations=conversations,
            dialogue=Dialogue(answering, conversations, database),
            health=Health(configuration, database, redis, qdrant, http, fence),
            fence=fence,
        )
        stack.push_async_callback(writer.flush, _FLUSH_SECONDS)
        for work in (
            database.watch(_SAMPLE_SECONDS),
            activity.run(),
            fence.watch(),
            writer.run(),
            _sample(database, pool, activity),
            _warm(retriever),
        ):
            stack.push_async_callback(_stop, asyncio.create_task(_logged(work)))
        _log.info("started", version=version(), language_model=configuration.llm.model or None)
        yield services
        _log.info("stopping")


async def _logged(work: Awaitable[None]) -> None:
    try:
        await work
    except Exception:
        _log.exception("background_task_failed")
        raise


async def _warm(retriever: Retrieves) -> None:
    """Load the dictionary and the live release's model before the first customer needs them."""
    await asyncio.to_thread(tokenize, "你好")
    while True:
        try:
            await retriever.retrieve("你好", limit=1)
            return
        except (NoLiveRelease, VectorStoreDown, ModelUnavailable):
            await asyncio.sleep(_WARM_SECONDS)


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError, Exception):
        await task


async def _sample(database: Database, pool: RedisPool, activity: Activity) -> None:
    """Keep this worker's gauges current until cancelled; a scrape may reach another worker."""
    while True:
        sample(database, pool, activity)
        await asyncio.sleep(_SAMPLE_SECONDS)


def sample(database: Database, pool: RedisPool, activity: Activity) -> None:
    """Set this worker's gauges."""
    statistics = database.pool.get_stats()
    for name, key in (
        ("size", "pool_size"),
        ("idle", "pool_available"),
        ("waiting", "requests_waiting"),
        ("min", "pool_min"),
        ("max", "pool_max"),
    ):
        metrics.DATABASE_POOL[name].set(statistics.get(key, 0))
    for name, value in pool.numbers().items():
        metrics.REDIS_POOL[name].set(value)
    metrics.ACTIVE.set(activity.count_here())


def lifespan(
    configuration: Configuration, open_retriever: OpenRetriever
) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """The lifespan of an application: its services are in `app.state.services`."""

    @asynccontextmanager
    async def run(app: Any) -> AsyncIterator[None]:
        async with open_services(configuration, open_retriever) as services:
            app.state.services = services
            yield

    return run


def provider(name: str) -> Provide:
    """The dependency that gives the service of this name."""

    async def provide(state: State) -> Any:
        return getattr(state.services, name)

    return Provide(provide)
