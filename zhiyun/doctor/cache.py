"""Redis: reached, let in, and really written to."""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import redis
from redis import exceptions

from orchestration.capacity import connections
from zhiyun.doctor import network
from zhiyun.doctor.kinds import Finding, Kind, Unwell
from zhiyun.doctor.site import Site
from zhiyun.settings import CapacitySettings, RedisSettings, load

_FAR_MS = 20.0

WELL = Kind(
    "redis.well", "ok",
    ("Redis {version}: a round trip takes {ms} ms, {memory} in use", "Redis {version}：往返 {ms} 毫秒，已用内存 {memory}"),
)  # fmt: skip
PASSWORD = Kind(
    "redis.password", "error",
    ("REDIS_URL: Redis at {where} refuses the password or role: {reason}.", "REDIS_URL：{where} 的 Redis 拒绝登录：{reason}。"),
    ("Correct the password in REDIS_URL; the server's is `requirepass` (or the role's, `ACL LIST`).",
     "改正 REDIS_URL 中的密码；服务器端见 `requirepass`（或 `ACL LIST`）。"),
)  # fmt: skip
FULL = Kind(
    "redis.full", "error",
    ("Redis at {where} takes no writes: {reason}.", "{where} 的 Redis 不接受写入：{reason}。"),
    ("Look at `redis-cli info memory` and `redis-cli info persistence`; raise maxmemory, or make room on its disk.",
     "查看 `redis-cli info memory` 与 `redis-cli info persistence`；提高 maxmemory，或为其磁盘腾出空间。"),
)  # fmt: skip
NOT_REDIS = Kind(
    "redis.no_answer", "error",
    ("REDIS_URL: {where} is reached, but does not answer as Redis: {reason}.", "REDIS_URL：{where} 可连接，但不像 Redis：{reason}。"),
    ("See which program has that port: `ss -ltnp 'sport = :{port}'`; start Redis: `{start}`.",
     "查看占用该端口的程序：`ss -ltnp 'sport = :{port}'`；启动 Redis：`{start}`。"),
)  # fmt: skip
FAR = Kind(
    "redis.slow", "warning",
    ("A round trip to Redis at {where} takes {ms} ms.", "到 Redis（{where}）往返一次需 {ms} 毫秒。"),
    ("`redis-cli --latency` tells Redis's share, `ping` the network's.", "`redis-cli --latency` 看 Redis 本身，`ping` 看网络。"),
)  # fmt: skip
USED = Kind(
    "redis.connections", "warning",
    ("{used} of Redis's {total} connections are in use.", "Redis 连接已用 {used}/{total}。"),
    ("Lower REDIS_POOL_MAX or SERVING_WORKERS, or `redis-cli config set maxclients N`.",
     "调低 REDIS_POOL_MAX 或 SERVING_WORKERS，或 `redis-cli config set maxclients N`。"),
)  # fmt: skip


def check(site: Site) -> Iterator[Finding]:
    """Everything about REDIS_URL. Losing Redis loses no answer: what is told here is an error all the same."""
    settings = load(RedisSettings)
    start = site.start("Redis")
    address = network.Address.of(settings.url, "REDIS_URL", "Redis", 6379)
    where = address.where
    if settings.url.startswith("unix:"):
        where = settings.url.removeprefix("unix://").split("?")[0]
    else:
        yield from network.walk(address, start, site.log("redis"))
    client: Any = redis.Redis.from_url(settings.url, socket_connect_timeout=5, socket_timeout=5)  # pyright: ignore[reportUnknownMemberType]
    with closing(client):
        try:
            ms = _round_trip(client)
        except (exceptions.AuthenticationError, exceptions.NoPermissionError) as error:
            raise Unwell(PASSWORD(where=where, reason=error)) from None
        except (exceptions.OutOfMemoryError, exceptions.ReadOnlyError, exceptions.ResponseError) as error:
            raise Unwell(FULL(where=where, reason=error)) from None
        except (redis.RedisError, OSError) as error:
            raise Unwell(NOT_REDIS(where=where, port=address.port, start=start, reason=_words(error))) from None
        info: dict[str, Any] = {}
        with suppress(redis.RedisError):  # the stand-in in Python has none
            info = client.info()
    if ms > _FAR_MS:
        yield FAR(where=where, ms=f"{ms:.0f}")
    with suppress(connections.RedisUnavailable):
        used = connections.of_redis(settings)
        if used.percent >= load(CapacitySettings).connections_percent:
            yield USED(used=used.used, total=used.total)
    yield WELL(version=info.get("redis_version", "?"), ms=f"{ms:.1f}", memory=info.get("used_memory_human", "?"))


def _round_trip(client: Any) -> float:
    """Milliseconds of a read (median of 5), after a write that goes by itself."""
    key, value = f"zhiyun:doctor:{secrets.token_hex(4)}", b"written"
    client.set(key, value, ex=5)
    times: list[float] = []
    for _ in range(5):
        began = time.perf_counter()
        if client.get(key) != value:
            raise redis.RedisError("what was written is not read back")
        times.append((time.perf_counter() - began) * 1000)
    client.delete(key)
    return statistics.median(times)


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
