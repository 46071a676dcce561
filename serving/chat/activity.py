"""Which conversations are active: in Redis for all workers, and in this process while Redis is away."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

_log = structlog.get_logger(__name__)

WINDOW = 30 * 60  # seconds: a conversation is active for this long after a message
_KEY = "zhiyun:chat:active"
_MOST = 100_000  # kept in this process at most


class Activity:
    """Marks are sent in the background, so that nobody waits for Redis."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._seen: dict[str, float] = {}
        self._unsent: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._up = True

    def touch(self, conversation_id: UUID) -> None:
        """There was a message just now."""
        key, now = str(conversation_id), time.time()
        self._seen.pop(key, None)  # to the end: the oldest come first
        self._seen[key] = self._unsent[key] = now
        while len(self._seen) > _MOST:
            del self._seen[next(iter(self._seen))]
        self._wake.set()

    def count_here(self) -> int:
        """Active conversations that this process has seen."""
        since = time.time() - WINDOW
        while self._seen:
            oldest = next(iter(self._seen))
            if self._seen[oldest] >= since:
                break
            del self._seen[oldest]
        return len(self._seen)

    async def count(self) -> int | None:
        """Active conversations over all workers, None while Redis is away."""
        try:
            async with asyncio.timeout(1):
                return int(await self._redis.zcount(_KEY, time.time() - WINDOW, "+inf"))
        except (RedisError, OSError, TimeoutError):
            return None

    async def knows(self, conversation_id: UUID) -> bool:
        """Whether a worker saw the conversation within the window; False while Redis is away."""
        try:
            async with asyncio.timeout(0.5):
                return await self._redis.zscore(_KEY, str(conversation_id)) is not None
        except (RedisError, OSError, TimeoutError):
            return False

    async def forget(self, conversation_id: UUID) -> None:
        """The conversation was deleted."""
        key = str(conversation_id)
        self._seen.pop(key, None)
        self._unsent.pop(key, None)
        try:
            async with asyncio.timeout(1):
                await self._redis.zrem(_KEY, key)
        except (RedisError, OSError, TimeoutError):
            self._lost()

    async def run(self) -> None:
        """Send marks until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            marks, self._unsent = self._unsent, {}
            try:
                async with asyncio.timeout(10), self._redis.pipeline(transaction=False) as pipeline:
                    pipeline.zadd(_KEY, dict(marks))
                    pipeline.zremrangebyscore(_KEY, "-inf", time.time() - WINDOW)
                    pipeline.expire(_KEY, WINDOW * 2)
                    await pipeline.execute()
                if not self._up:
                    self._up = True
                    _log.info("redis_back")
            except (RedisError, OSError, TimeoutError):
                self._lost()
                self._unsent = dict(list({**marks, **self._unsent}.items())[-_MOST:])
                await asyncio.sleep(2)
                self._wake.set()

    def _lost(self) -> None:
        if self._up:
            self._up = False
            _log.warning("redis_lost", effect="active conversations are counted by each worker for itself")
