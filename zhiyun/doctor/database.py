"""PostgreSQL: from its host's name to a real write, and what makes it slow."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
from psycopg import conninfo, errors

from knowledge.database import Connection
from orchestration.backups.recovery_point import BackupError
from orchestration.backups.server import programs_for
from orchestration.capacity import connections
from orchestration.maintenance import health, statements
from orchestration.maintenance.report import duration
from orchestration.maintenance.session import facts
from zhiyun.doctor import network
from zhiyun.doctor.kinds import Finding, Kind, Unwell
from zhiyun.doctor.site import Site
from zhiyun.settings import CapacitySettings, DatabaseSettings, MaintenanceSettings, ServingSettings, load

_CONNECT_SECONDS = 5
_OLDEST = 15
_FAR_MS = 20.0
_LONG_SECONDS = 5.0
_OFTEN = 5  # calls of a slow statement from which it is worth a word
_SHOWN = 3

WELL = Kind(
    "database.well", "ok",
    ("PostgreSQL {version} at {where}: a round trip takes {ms} ms, {used} of {total} connections are in use, schema {schema}",
     "PostgreSQL {version}（{where}）：往返 {ms} 毫秒，已用连接 {used}/{total}，表结构版本 {schema}"),
)  # fmt: skip
PASSWORD = Kind(
    "database.password", "error",
    ("{setting}: PostgreSQL at {where} refuses role {role}: the password is wrong, or missing.",
     "{setting}：{where} 的 PostgreSQL 拒绝角色 {role}：密码错误或缺失。"),
    ("Correct the password in {setting}, or set it on the server: `psql -c '\\password {role}'`.",
     "改正 {setting} 中的密码，或在服务器上重设：`psql -c '\\password {role}'`。"),
)  # fmt: skip
NO_ROLE = Kind(
    "database.no_such_role", "error",
    ("{setting}: PostgreSQL at {where} knows no role {role}.", "{setting}：{where} 的 PostgreSQL 没有角色 {role}。"),
    ("Correct {setting}, or make the role: `createuser --pwprompt {role}`.",
     "改正 {setting}，或创建角色：`createuser --pwprompt {role}`。"),
)  # fmt: skip
NO_DATABASE = Kind(
    "database.no_such_database", "error",
    ("{setting}: PostgreSQL at {where} has no database {database}.", "{setting}：{where} 的 PostgreSQL 没有数据库 {database}。"),
    ("Correct {setting}; or make it: `createdb --owner={role} {database}` and `python -m migrations upgrade`; or restore it: "
     "`zhiyun recover --from STORE`.",
     "改正 {setting}；或新建：`createdb --owner={role} {database}` 后执行 `python -m migrations upgrade`；或恢复："
     "`zhiyun recover --from STORE`。"),
)  # fmt: skip
NOT_ALLOWED = Kind(
    "database.not_allowed_in", "error",
    ("{setting}: PostgreSQL at {where} lets role {role} not in from here: {reason}.",
     "{setting}：{where} 的 PostgreSQL 不允许角色 {role} 从本机登录：{reason}。"),
    ("Add a line for this host to pg_hba.conf there, and `SELECT pg_reload_conf();`.",
     "在服务器的 pg_hba.conf 中为本机加一行，再执行 `SELECT pg_reload_conf();`。"),
)  # fmt: skip
NO_PLACE = Kind(
    "database.connections_used_up", "error",
    ("{setting}: PostgreSQL at {where} has no connection left: {reason}. Most have: {most}.",
     "{setting}：{where} 的 PostgreSQL 连接数已用尽：{reason}。占用最多的：{most}。"),
    ("Lower DATABASE_POOL_MAX or SERVING_WORKERS and restart the chat, or raise the limit and restart PostgreSQL: "
     "`ALTER SYSTEM SET max_connections = 300;`.",
     "调低 DATABASE_POOL_MAX 或 SERVING_WORKERS 并重启对话服务，或提高上限并重启 PostgreSQL："
     "`ALTER SYSTEM SET max_connections = 300;`。"),
)  # fmt: skip
NOT_READY = Kind(
    "database.not_ready", "error",
    ("{setting}: PostgreSQL at {where} runs but takes no connection yet: {reason}.",
     "{setting}：{where} 的 PostgreSQL 在运行，但尚不接受连接：{reason}。"),
    ("Wait for it; its log says how far it is. If it does not end: `{start}`.", "等待它完成，日志中有进度；若一直不结束：`{start}`。"),
)  # fmt: skip
NOT_POSTGRES = Kind(
    "database.not_connected", "error",
    ("{setting}: {where} answers, but no session begins: {reason}.", "{setting}：{where} 有回应，但无法建立会话：{reason}。"),
    ("See that PostgreSQL, and not another program, has that port: `ss -ltnp 'sport = :{port}'`.",
     "确认占用该端口的是 PostgreSQL：`ss -ltnp 'sport = :{port}'`。"),
)  # fmt: skip
OLD = Kind(
    "database.old_version", "error",
    ("{where} is PostgreSQL {version}; {oldest} or later is needed.", "{where} 是 PostgreSQL {version}；需要 {oldest} 或更高版本。"),
    ("Upgrade the server: `pg_upgradecluster {version} main`.", "升级服务器：`pg_upgradecluster {version} main`。"),
)  # fmt: skip
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
    ("Run the later version again; or go back to the point before it: `zhiyun backup list`, `zhiyun restore POINT`.",
     "重新使用更高版本；或恢复到升级之前：`zhiyun backup list`，`zhiyun restore POINT`。"),
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
HEALTH = Kind(
    "database.health", "warning",
    ("{what}, {where}: {detail}.", "{what_zh}，{where}：{detail}。"),
    ("{mend}", "{mend}"),
)  # fmt: skip
LONG = Kind(
    "database.long_statement", "warning",
    ("A statement of {who} runs for {seconds}: {text}", "{who} 的语句已运行 {seconds}：{text}"),
    ("If it is not wanted: `SELECT pg_cancel_backend({pid});`. Its plan: the asset slow_query_report in the Dagster UI.",
     "如不需要：`SELECT pg_cancel_backend({pid});`。执行计划见 Dagster 界面的 slow_query_report。"),
)  # fmt: skip
SLOW = Kind(
    "database.slow_statement", "warning",
    ("A statement takes {ms} ms on average ({calls} calls): {text}", "某语句平均耗时 {ms} 毫秒（{calls} 次）：{text}"),
    ("See its plan and the indexes that are missing: the assets slow_query_report and index_report in the Dagster UI.",
     "执行计划和缺失的索引见 Dagster 界面的 slow_query_report 与 index_report。"),
)  # fmt: skip
NO_STATEMENTS = Kind(
    "database.no_statistics", "note",
    ("Slow statements cannot be told: {reason}", "无法统计慢语句：{reason}"),
    ("`CREATE EXTENSION pg_stat_statements;`", "`CREATE EXTENSION pg_stat_statements;`"),
)  # fmt: skip

_HEALTH_ZH = {
    "wraparound": "事务号回卷", "idle transaction": "空闲事务", "prepared transaction": "未决的两阶段事务",
    "blocked statement": "被阻塞的语句", "replication slot": "复制槽", "sequence": "序列将用尽", "connections": "连接数",
}  # fmt: skip


def check(site: Site) -> Iterator[Finding]:
    """Everything about DATABASE_URL and DATABASE_ADMIN_URL."""
    settings = load(DatabaseSettings)
    yield from _way(settings.url, "DATABASE_URL", site)
    with connected(settings.url, "DATABASE_URL", site, spare=settings.admin_url) as connection:
        yield from _usable(connection, settings, site)
        yield from _slow(connection)
    if settings.admin_url:
        yield from _way(settings.admin_url, "DATABASE_ADMIN_URL", site)
    with connected(settings.admin, "DATABASE_ADMIN_URL" if settings.admin_url else "DATABASE_URL", site) as connection:
        yield from _health(connection)
    try:
        programs_for(settings.admin, settings.programs)
    except BackupError as error:
        yield PROGRAMS(reason=error)


def connected(url: str, setting: str, site: Site, spare: str = "") -> Connection:
    """A session, to be closed by the caller's `with`. Raises Unwell with the reason why there is none.

    `spare` is a role that still gets in where ordinary ones do not, to see who has all the connections.
    """
    try:
        return psycopg.connect(url, autocommit=True, connect_timeout=_CONNECT_SECONDS, application_name="zhiyun-doctor")
    except psycopg.OperationalError as error:
        raise Unwell(_refusal(error, url, setting, site, spare)) from None


def impatient() -> DatabaseSettings:
    """The platform's database for other areas: whoever looks at many things does not wait as long as the chat may."""
    return load(DatabaseSettings).model_copy(update={"connect_timeout": _CONNECT_SECONDS})


def _way(url: str, setting: str, site: Site) -> Iterator[Finding]:
    options = conninfo.conninfo_to_dict(url)
    host = str(options.get("host") or os.environ.get("PGHOST") or "")
    for one in host.split(","):
        if one and not one.startswith("/"):
            port = int(str(options.get("port") or os.environ.get("PGPORT") or "5432").split(",")[0])
            yield from network.walk(
                network.Address(setting, "PostgreSQL", one, port), site.start("PostgreSQL"), site.log("postgres")
            )


def _refusal(error: psycopg.OperationalError, url: str, setting: str, site: Site, spare: str) -> Finding:
    """Why no session began, from libpq's words: it has no code for it."""
    options = conninfo.conninfo_to_dict(url)
    where = f"{options.get('host') or 'the local socket'}:{options.get('port') or 5432}"
    role, name = str(options.get("user") or ""), str(options.get("dbname") or options.get("user") or "")
    said = " ".join(str(error).split())
    reason = said.rpartition("FATAL:")[2].strip() or said
    told = {"setting": setting, "where": where, "role": role, "database": name, "reason": reason.rstrip(".")}
    if "password authentication failed" in said or "no password supplied" in said:
        return PASSWORD(**told)
    if f'role "{role}" does not exist' in said:
        return NO_ROLE(**told)
    if f'database "{name}" does not exist' in said:
        return NO_DATABASE(**told)
    if "pg_hba.conf" in said:
        return NOT_ALLOWED(**told)
    if "too many clients" in said or "remaining connection slots" in said or "too many connections" in said:
        return NO_PLACE(**told, most=_who_has_them(spare) or "?")
    if any(word in said for word in ("starting up", "shutting down", "not yet accepting", "recovery mode")):
        return NOT_READY(**told, start=site.start("PostgreSQL"))
    return NOT_POSTGRES(**told, port=str(options.get("port") or 5432))


def _who_has_them(spare: str) -> str:
    """Superusers have places of their own."""
    if not spare:
        return ""
    with suppress(psycopg.Error), psycopg.connect(spare, autocommit=True, connect_timeout=3) as connection:
        return _most(connections.of_postgres(connection))
    return ""


def _most(used: connections.Connections) -> str:
    return ", ".join(f"{who} ({state}) {number}" for who, state, number in used.by[:3])


def _usable(connection: Connection, settings: DatabaseSettings, site: Site) -> Iterator[Finding]:
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
        yield USED(used=used.used, total=used.total, most=_most(used))
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

    scripts = ScriptDirectory(str(Path(__file__).parents[2] / "migrations"))
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


def _health(connection: Connection) -> Iterator[Finding]:
    settings = load(MaintenanceSettings)
    for found in health.database_health(connection, settings).findings:
        if found.what == "connections":  # told above, with the chat's own part in it
            continue
        yield HEALTH(found.level, what=found.what[:1].upper() + found.what[1:], what_zh=_HEALTH_ZH.get(found.what, found.what),
            where=found.where, detail=found.detail.rstrip("."), mend=found.mend,
        )  # fmt: skip


def _slow(connection: Connection) -> Iterator[Finding]:
    rows = connection.execute(
        """
        SELECT pid, coalesce(nullif(application_name, ''), usename::text, 'somebody'),
               extract(epoch FROM clock_timestamp() - query_start)::float8, query
        FROM pg_stat_activity
        WHERE state = 'active' AND pid <> pg_backend_pid() AND backend_type = 'client backend'
          AND clock_timestamp() - query_start > make_interval(secs => %s)
          AND application_name NOT LIKE 'zhiyun maintenance%%' AND application_name NOT LIKE 'zhiyun-backup%%'
          AND query NOT LIKE 'COPY %%'
        ORDER BY query_start LIMIT %s
        """,
        (_LONG_SECONDS, _SHOWN),
    ).fetchall()
    for pid, who, seconds, text in rows:
        yield LONG(pid=pid, who=who, seconds=duration(seconds), text=_short(text))
    can = facts(connection)
    reason = statements.missing(connection, can)
    if reason:
        yield NO_STATEMENTS(reason=reason)
        return
    limit = load(MaintenanceSettings).slow_query_ms
    for text, ms, calls in statements.slowest(connection, can, limit, _OFTEN, _SHOWN):
        yield SLOW(ms=f"{ms:.0f}", calls=calls, text=_short(text))


def _short(text: str) -> str:
    """The statement without its values, on one line."""
    line = statements.normalised(text)
    return line if len(line) <= 160 else line[:159] + "…"
