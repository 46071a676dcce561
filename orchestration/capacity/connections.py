"""Connections: how many of a server's are taken, and by whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import redis

from knowledge.database import Connection
from zhiyun.logs import without_secrets
from zhiyun.settings import RedisSettings


@dataclass(frozen=True)
class Connections:
    """A server's connections. `total` is what ordinary users may open; 0 where the server does not tell."""

    server: str
    used: int
    total: int
    by: tuple[tuple[str, str, int], ...] = ()  # (who, state, how many), most first
    refused: int | None = None  # since the server started

    @property
    def percent(self) -> float:
        return 100 * self.used / self.total if self.total else 0.0


def of_postgres(connection: Connection) -> Connections:
    """Client connections of the whole server, by application, role and state.

    What a role without pg_monitor may not see of others is counted as `not visible`.
    """
    row = connection.execute(
        "SELECT sum(setting::int) FILTER (WHERE name = 'max_connections') "
        "- coalesce(sum(setting::int) FILTER (WHERE name <> 'max_connections'), 0) FROM pg_settings "
        "WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections')"
    ).fetchone()
    assert row is not None
    # Without pg_monitor even the type of another role's backend is hidden; a database it has all the same.
    by = connection.execute(
        """
        SELECT CASE WHEN backend_type IS NULL AND state IS NULL THEN usename
                    ELSE coalesce(nullif(application_name, ''), usename::text) END AS who,
               coalesce(state, 'not visible'), count(*)
        FROM pg_stat_activity
        WHERE datid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'
        GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2
        """
    ).fetchall()
    counted = tuple((str(who), str(state), int(number)) for who, state, number in by)
    return Connections("PostgreSQL", sum(number for _, _, number in counted), int(row[0]), counted)


def of_redis(settings: RedisSettings) -> Connections:
    """The server's clients. Raises RedisUnavailable with one sentence."""
    client = redis.Redis.from_url(
        settings.url, socket_connect_timeout=settings.connect_timeout, socket_timeout=settings.connect_timeout
    )
    try:
        told = cast("dict[str, Any]", client.info())
        total = int(told.get("maxclients") or _configured(client))
    except (redis.RedisError, OSError, ValueError) as error:
        raise RedisUnavailable(
            f"REDIS_URL: its connections cannot be counted: {without_secrets(str(error)) or type(error).__name__}"
        ) from None
    finally:
        client.close()
    refused = told.get("rejected_connections")
    blocked = int(told.get("blocked_clients", 0))
    used = int(told.get("connected_clients", 0))
    return Connections(
        "Redis", used, total, (("clients", "blocked", blocked),) if blocked else (), None if refused is None else int(refused)
    )  # fmt: skip


class RedisUnavailable(RuntimeError):
    """Redis does not tell its figures. One sentence that names REDIS_URL."""


def _configured(client: redis.Redis) -> int:
    """Before Redis 7 INFO does not tell the limit, and some servers answer no CONFIG."""
    try:
        return int(cast("dict[str, Any]", client.config_get("maxclients")).get("maxclients", 0))
    except redis.RedisError:
        return 0
