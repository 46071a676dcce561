"""PostgreSQL: from its host's name to a real write, its schema and its connections."""

from __future__ import annotations

import statistics
import time
from collections.abc import Generator, Iterator

import psycopg
from psycopg import conninfo, errors

from console.doctor.areas.database_load import slow, troubles
from console.doctor.areas.postgresql import connected, most_have, way
from console.doctor.kinds import Finding, Kind, Unwell
from console.doctor.site import Site
from knowledge.database import Connection
from orchestration.backups.database.server import programs_for
from orchestration.backups.recovery_point import BackupError
from orchestration.capacity import connections
from zhiyun.repository import REPOSITORY
from zhiyun.settings import CapacitySettings, DatabaseSettings, ServingSettings, load

_OLDEST = 15
_FAR_MS = 20.0

WELL = Kind(
    "database.well", "ok",
    ("PostgreSQL {version} at {where}: a round trip takes {ms} ms, {used} of {total} connections are in use, schema {schema}",
     "PostgreSQL {version}（{where}）：往返 {ms} 毫秒，已用连接 {used}/{total}，表结构版本 {schema}"),
)  # fmt: skip
OLD = Kind(
    "database.old_version", "error",
    ("{where} is PostgreSQL {version}; {oldest} or later is needed.", "{where} 是 PostgreSQL {version}；需要 {oldest} 或更高版本。"),
    ("Upgrade the server: `pg_upgradecluster {version} main`.", "升级服务器：`pg_upgradecluster {version} main`。"),
)  # fmt: skip
NOT_TOLD = Kind(
    "database.query_refused",
    "warning",
    ("PostgreSQL does not tell all: {reason}.", "PostgreSQL 未能提供全部信息：{reason}。"),
    (
        "A right that is missing: `GRANT pg_monitor TO {role};`, or set DATABASE_ADMIN_URL. A lock or a timeout: see who holds "
        "it above, and `zhiyun doctor database` again.",
        "若缺少权限：`GRANT pg_monitor TO {role};`，或设置 DATABASE_ADMIN_URL；若是锁或超时：见上面是谁持有，再运行 `zhiyun doctor database`。",
    ),
)
READ_ONLY = Kind(
    "database.read_only", "error",
    ("PostgreSQL at {where} takes no writes: {reason}.", "{where} 的 PostgreSQL 不接受写入：{reason}。"),
    ("Let {setting} name the primary; of a standby: `SELECT pg_promote();`.",
     "让 {setting} 指向主库；若要提升备库：`SELECT pg_promote();`。"),
)  # fmt: skip
CANNOT_WRITE = Kind(
    "database.cannot_write", "error",
    ("PostgreSQL at {where} answers, but cannot write: {reason}.", "{where} 的 PostgreSQL 能应答，但无法写入：{reason}。"),
    ("If its disk is full, make room there: `df -h`, `zhiyun backup prune`, old logs.",
     "若磁盘已满，先腾出空间：`df -h`、`zhiyun backup prune`、清理旧日志。"),
)  # fmt: skip
FAR = Kind(
    "database.slow_round_trip", "warning",
    ("A round trip to PostgreSQL at {where} takes {ms} ms (median of 5): the network, or the server is overloaded.",
     "到 PostgreSQL（{where}）往返一次需 {ms} 毫秒（5 次中位数）：网络慢或服务器过载。"),
    ("`ping -c 5 {host}` tells the network's share; then look at the load of that host.",
     "`ping -c 5 {host}` 看网络延迟；再查看该主机负载。"),
)  # fmt: skip
NO_SCHEMA = Kind(
    "database.schema_missing", "error",
    ("Database {database} has none of the platform's tables.", "数据库 {database} 中没有本平台的表。"),
    ("Make them: `python -m migrations upgrade`; or bring the old ones back: `zhiyun recover --from STORE`.",
     "建表：`python -m migrations upgrade`；或恢复旧数据：`zhiyun recover --from STORE`。"),
)  # fmt: skip
OLD_SCHEMA = Kind(
    "database.schema_old", "error",
    ("Database {database} has schema {found}; this version needs {wanted}.", "数据库 {database} 的表结构为 {found}；当前版本需要 {wanted}。"),
    ("`zhiyun backup now`, then `python -m migrations upgrade`.", "先 `zhiyun backup now`，再 `python -m migrations upgrade`。"),
)  # fmt: skip
NEW_SCHEMA = Kind(
    "database.schema_unknown", "error",
    ("Database {database} has schema {found}, which this version does not know (its newest is {wanted}): a later version has "
     "used it.",
     "数据库 {database} 的表结构为 {found}，当前版本不认识（最新为 {wanted}）：它被更高版本使用过。"),
    ("Run the later version again; or go back to the point before it, which gives up what came since: `zhiyun backup list`, `zhiyun restore POINT`.",
     "重新使用更高版本；或恢复到升级之前（此后的数据会丢失）：`zhiyun backup list`，`zhiyun restore POINT`。"),
)  # fmt: skip
USED = Kind(
    "database.connections", "warning",
    ("{used} of PostgreSQL's {total} connections are in use. Most have: {most}.", "PostgreSQL 连接已用 {used}/{total}。占用最多的：{most}。"),
    ("Lower DATABASE_POOL_MAX or SERVING_WORKERS and restart the chat, or raise max_connections and restart PostgreSQL.",
     "调低 DATABASE_POOL_MAX 或 SERVING_WORKERS 并重启对话服务，或提高 max_connections 并重启 PostgreSQL。"),
)  # fmt: skip
POOL = Kind(
    "database.pool_too_large", "warning",
    ("The chat may open {wanted} connections (DATABASE_POOL_MAX={pool} for each of {workers} processes), and PostgreSQL allows "
     "{total}: under load some are refused.",
     "对话服务最多会打开 {wanted} 个连接（DATABASE_POOL_MAX={pool} × {workers} 个进程），而 PostgreSQL 只允许 {total} 个：高负载时会被拒绝。"),
    ("Set DATABASE_POOL_MAX to at most {fitting}, or raise max_connections.", "将 DATABASE_POOL_MAX 设为不超过 {fitting}，或提高 max_connections。"),
)  # fmt: skip
PROGRAMS = Kind(
    "database.programs", "error",
    ("Backups cannot run: {reason}", "无法备份：{reason}"),
    ("Install the client programs of the server's version, or set DATABASE_PROGRAMS.", "安装与服务器同版本的客户端程序，或设置 DATABASE_PROGRAMS。"),
)  # fmt: skip


def check(site: Site) -> Iterator[Finding]:
    """Everything about DATABASE_URL and DATABASE_ADMIN_URL."""
    settings = load(DatabaseSettings)
    yield from way(settings.url, "DATABASE_URL", site)
    with connected(settings.url, "DATABASE_URL", site, spare=settings.admin_url) as connection:
        admin = "DATABASE_ADMIN_URL" if settings.admin_url else "DATABASE_URL"
        if settings.admin_url:
            yield from way(settings.admin_url, admin, site)
        with connected(settings.admin, admin, site) as monitor:
            # Who holds others up comes first: what follows may be held up itself.
            for part in (troubles(monitor), slow(monitor), _usable(connection, settings)):
                yield from _told(part, settings)
    try:
        programs_for(settings.admin, settings.programs)
    except BackupError as error:
        yield PROGRAMS(reason=error)


def _told(part: Iterator[Finding], settings: DatabaseSettings) -> Iterator[Finding]:
    """The findings of a part; what PostgreSQL refuses of it takes nothing from the others."""
    try:
        yield from part
    except psycopg.Error as error:
        role = conninfo.conninfo_to_dict(settings.admin).get("user") or "ROLE"
        yield NOT_TOLD(reason=error.diag.message_primary or " ".join(str(error).split()), role=role)


def _usable(connection: Connection, settings: DatabaseSettings) -> Iterator[Finding]:
    info = connection.info
    where, major = f"{info.host or 'the local socket'}:{info.port}", info.server_version // 10000
    version = info.parameter_status("server_version") or str(major)
    if major < _OLDEST:
        raise Unwell(OLD(where=where, version=version.split()[0], oldest=_OLDEST))
    yield from _writes(connection, where)
    times: list[float] = []
    for _ in range(5):
        began = time.perf_counter()
        connection.execute("SELECT 1")
        times.append((time.perf_counter() - began) * 1000)
    ms = statistics.median(times)
    if ms > _FAR_MS:
        yield FAR(where=where, host=info.host, ms=f"{ms:.0f}")
    schema = yield from _schema(connection, info.dbname)
    used = connections.of_postgres(connection)
    if used.percent >= load(CapacitySettings).connections_percent:
        yield USED(used=used.used, total=used.total, most=most_have(used))
    workers = load(ServingSettings).workers
    if settings.pool_max * workers > used.total:
        yield POOL(
            wanted=settings.pool_max * workers, pool=settings.pool_max, workers=workers, total=used.total,
            fitting=max(1, int(0.8 * used.total) // workers),
        )  # fmt: skip
    yield WELL(
        version=version.split()[0], where=where, ms=f"{ms:.1f}", used=used.used, total=used.total, schema=schema or "?"
    )


def _writes(connection: Connection, where: str) -> Iterator[Finding]:
    """A row is really written, into a table that only this session has."""
    if connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,):
        raise Unwell(READ_ONLY(where=where, reason="it is a standby", setting="DATABASE_URL"))
    try:
        with connection.transaction(force_rollback=True):
            connection.execute("CREATE TEMP TABLE doctor AS SELECT repeat('x', 10000) AS filler")
    except errors.ReadOnlySqlTransaction as error:
        raise Unwell(READ_ONLY(where=where, reason=error.diag.message_primary, setting="DATABASE_URL")) from None
    except psycopg.Error as error:
        yield CANNOT_WRITE(where=where, reason=error.diag.message_primary or error)


def _schema(connection: Connection, database: str) -> Generator[Finding, None, str]:
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(REPOSITORY / "migrations"))
    wanted = scripts.get_current_head()
    if connection.execute("SELECT to_regclass('schema_version')").fetchone() == (None,):
        yield NO_SCHEMA(database=database)
        return ""
    row = connection.execute("SELECT version_num::text FROM schema_version").fetchone()
    found = row[0] if row else ""
    if found == wanted:
        return found
    known = {script.revision for script in scripts.walk_revisions()}
    kind = OLD_SCHEMA if found in known else NEW_SCHEMA
    yield kind(database=database, found=found or "(none)", wanted=wanted)
    return found
