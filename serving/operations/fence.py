"""The fence, seen from the chat: while it is up, questions and conversations get 503 and are told when to come back."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

import structlog
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from redis.asyncio import Redis
from redis.exceptions import RedisError

from serving.problems import problem
from zhiyun.fence import CHECK_SECONDS, KEY, Fence, decode

_log = structlog.get_logger(__name__)

_HELD_SECONDS = 5.0  # that a fence is believed after Redis went away behind it: a restore of Redis' own host, a blip
_MOST_RETRY_SECONDS = 5
_SENTENCES = {
    "zh": "资料库正在恢复，请稍等片刻再试。",
    "en": "The knowledge base is being restored; try again in a moment.",
}


class FenceWatch:
    """Looks for the fence in the background: a request only reads a field."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._seen_at = float("-inf")
        self.up: Fence | None = None

    async def watch(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Look once: before a process serves, so that one that starts during a restore lets nobody in."""
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                value = await self._redis.get(KEY)
        except UnicodeDecodeError:  # the connection decodes; whatever it is, the key is there
            value = ""
        except (RedisError, OSError, TimeoutError):
            if time.monotonic() - self._seen_at > _HELD_SECONDS:
                self._set(None)
            return
        if value is not None:
            self._seen_at = time.monotonic()
        self._set(decode(value) if value is not None else None)

    def _set(self, fence: Fence | None) -> None:
        if (fence is None) != (self.up is None):
            _log.warning("fenced" if fence else "fence_gone", reason=fence.reason if fence else None)
        self.up = fence


def unfenced(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """A guard. Raises a problem (503) while the fence is up."""
    watch: FenceWatch = connection.app.state.services.fence
    fence = watch.up
    if fence is None:
        return
    left = math.ceil(fence.until - time.time())
    language = "zh" if connection.headers.get("accept-language", "").lower().startswith("zh") else "en"
    raise problem(503, _SENTENCES[language], retry_after=max(1, min(left, _MOST_RETRY_SECONDS)))
