"""Redis: reached, let in, and really written to."""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any
from urllib.parse import urlsplit

import redis
from redis import exceptions

from console.doctor.areas import network
from console.doctor.kinds import Finding, Kind, Unwell
from console.doctor.site import Site
from orchestration.capacity import connections
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
LOADING = Kind(
    "redis.loading",
    "warning",
    ("Redis at {where} still reads its file from the disk.", "{where} 的 Redis 正在从磁盘加载数据。"),
    (
        "Wait; a restart begins it anew. `redis-cli info persistence` tells how far it is.",
        "请等待，重启会重新开始；`redis-cli info persistence` 可看进度。",
    ),
)
REPLICA = Kind(
    "redis.read_only",
    "error",
    ("Redis at {where} is a replica and takes no writes.", "{where} 的 Redis 是只读副本，不接受写入。"),
    (
        "Let REDIS_URL name the primary: `redis-cli info replication` says which.",
        "让 REDIS_URL 指向主节点：`redis-cli info replication` 可查。",
    ),
)
USED_UP = Kind(
    "redis.connections_used_up",
    "error",
    ("Redis at {where} has no connection left.", "{where} 的 Redis 连接数已用尽。"),
    (
        "Raise it: `redis-cli config set maxclients N`; or lower REDIS_POOL_MAX and SERVING_WORKERS and restart the chat.",
        "提高上限：`redis-cli config set maxclients N`；或调低 REDIS_POOL_MAX、SERVING_WORKERS 并重启对话服务。",
    ),
)
REFUSES = Kind(
    "redis.refuses",
    "error",
    ("Redis at {where} refuses what the chat asks: {reason}.", "{where} 的 Redis 拒绝请求：{reason}。"),
    ("Correct REDIS_URL: its database number (`/0`) and its role.", "改正 REDIS_URL：数据库编号（`/0`）与角色。"),
)
NOT_REDIS = Kind(
    "redis.no_answer", "error",
    ("REDIS_URL: {where} is reached, but does not answer as Redis: {reason}.", "REDIS_URL：{where} 可连接，但未按 Redis 协议应答：{reason}。"),
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
        where = urlsplit(settings.url).path
    else:  # what TLS it speaks stands in the URL's own options: the client judges it
        yield from network.walk(address, start, site.log("redis"))
    client: Any = redis.Redis.from_url(settings.url, socket_connect_timeout=5, socket_timeout=5)  # pyright: ignore[reportUnknownMemberType]
    with closing(client):
        try:
            ms = _round_trip(client)
        except (redis.RedisError, OSError) as error:
            raise Unwell(_refusal(error, where, address, start)) from None
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


def _refusal(error: Exception, where: str, address: network.Address, start: str) -> Finding:
    """What Redis, or the way to it, has against us."""
    said = _words(error)
    if isinstance(error, exceptions.AuthenticationError | exceptions.NoPermissionError):
        return PASSWORD(where=where, reason=said)
    if isinstance(error, exceptions.BusyLoadingError):
        return LOADING(where=where)
    if isinstance(error, exceptions.ReadOnlyError):
        return REPLICA(where=where)
    if "max number of clients" in said:
        return USED_UP(where=where)
    if "certificate" in said.lower():
        told = {"setting": "REDIS_URL", "service": "Redis", "where": where, "host": address.host}
        return network.UNTRUSTED(**told, reason=said)
    if "No such file" in said or "Connection refused" in said:
        return network.REFUSED(setting="REDIS_URL", service="Redis", where=where, start=start)
    if isinstance(error, exceptions.OutOfMemoryError) or "MISCONF" in said:
        return FULL(where=where, reason=said)
    if isinstance(error, exceptions.ResponseError):
        return REFUSES(where=where, reason=said)
    return NOT_REDIS(where=where, port=address.port, start=start, reason=said)


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
