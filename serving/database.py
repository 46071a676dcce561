"""The chat's pool of PostgreSQL connections, and whether the database answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import psycopg
import structlog
from psycopg_pool import AsyncConnectionPool

from zhiyun.settings import DatabaseSettings

_log = structlog.get_logger(__name__)

Connection: TypeAlias = psycopg.AsyncConnection[tuple[Any, ...]]


class DatabaseDown(RuntimeError):
    """The database at DATABASE_URL did not answer. The message is the reason."""


class Database:
    """Connections with the manual's pool numbers (section 3.2). `up` tells whether the last use of it worked.

    The pool is opened in the background, so that the chat starts without the database, and a connection
    is checked before it is handed out, so that it recovers from a restart of the database by itself.
    """

    def __init__(self, settings: DatabaseSettings) -> None:
        self._url = settings.url
        self._connect_timeout = max(1, round(settings.connect_timeout))
        logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # it logs each attempt of each connection
        self.up = False
        self.reason: str | None = None
        self.pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            settings.url,
            kwargs={
                "autocommit": True,
                "connect_timeout": int(settings.connect_timeout),
                "application_name": "zhiyun-chat",
            },
            min_size=settings.pool_min,
            max_size=settings.pool_max,
            timeout=settings.connect_timeout,
            max_idle=settings.idle_timeout,
            # A short one: the pool gives up and tries afresh when it is asked again, which `watch` does.
            # With the default of minutes its waits grow to minutes too, and the chat would not notice
            # that the database is back.
            reconnect_timeout=5,
            check=AsyncConnectionPool.check_connection,
            open=False,
            name="chat",
        )

    @contextlib.asynccontextmanager
    async def connection(self, seconds: float) -> AsyncIterator[Connection]:
        """A connection for at most `seconds`, waiting included. Raises DatabaseDown."""
        try:
            async with asyncio.timeout(seconds), self.pool.connection(timeout=seconds) as connection:
                yield connection
        except (psycopg.OperationalError, TimeoutError) as error:
            self.up, self.reason = False, _reason(error)
            raise DatabaseDown(self.reason) from error
        self.up, self.reason = True, None

    async def probe(self, seconds: float) -> None:
        """Ask the database something. Raises DatabaseDown with what the database or the network says."""
        half = seconds * 0.45
        if self.up:
            with contextlib.suppress(DatabaseDown):
                await self._ask(half)
                return
        # Not through the pool, which only knows that it has no connection and not why.
        try:
            async with asyncio.timeout(half):
                connection = await psycopg.AsyncConnection.connect(
                    self._url, connect_timeout=self._connect_timeout, application_name="zhiyun-probe"
                )
                await connection.close()
        except (psycopg.OperationalError, TimeoutError) as error:
            self.up, self.reason = False, _reason(error)
            raise DatabaseDown(self.reason) from error
        await self._ask(half)

    async def _ask(self, seconds: float) -> None:
        async with self.connection(seconds) as connection:
            await connection.execute("SELECT 1")

    async def watch(self, every: float) -> None:
        """Keep `up` current, and log when it changes, until cancelled."""
        was_up = True
        while True:
            with contextlib.suppress(DatabaseDown):
                await self.probe(2.0)
            if self.up != was_up:
                was_up = self.up
                if was_up:
                    _log.info("database_back")
                else:
                    _log.error("database_lost", setting="DATABASE_URL", reason=self.reason)
            await asyncio.sleep(every)


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].removeprefix("connection failed: ")[:200] if lines else "no answer in time"
