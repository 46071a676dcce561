"""PostgreSQL under load: what makes it slow, and what will stop it one day."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

from console.doctor.kinds import Finding, Kind
from knowledge.database import Connection
from orchestration.maintenance import health
from orchestration.maintenance.markdown import duration
from orchestration.maintenance.session import facts
from orchestration.maintenance.statements import snapshots
from zhiyun.settings import MaintenanceSettings, load

_LONG_SECONDS = 5.0
_OFTEN = 5  # calls of a slow statement from which it is worth a word
_SHOWN = 3

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
    ("As a superuser: `CREATE EXTENSION IF NOT EXISTS pg_stat_statements; ALTER EXTENSION pg_stat_statements UPDATE;`; it has to stand in shared_preload_libraries.", "以超级用户执行：`CREATE EXTENSION IF NOT EXISTS pg_stat_statements; ALTER EXTENSION pg_stat_statements UPDATE;`；并需写入 shared_preload_libraries。"),
)  # fmt: skip
NOT_SEEN = Kind(
    "database.not_seen",
    "note",
    ("{reason}", "部分会话不可见：{reason}"),
    (
        "`GRANT pg_monitor TO ROLE;`, or set DATABASE_ADMIN_URL.",
        "`GRANT pg_monitor TO 角色;`，或设置 DATABASE_ADMIN_URL。",
    ),
)

_HEALTH_ZH = {
    "wraparound": "事务号回卷", "idle transaction": "空闲事务", "prepared transaction": "未决的两阶段事务",
    "blocked statement": "被阻塞的语句", "replication slot": "复制槽", "sequence": "序列将用尽", "connections": "连接数",
}  # fmt: skip


def troubles(connection: Connection) -> Iterator[Finding]:
    """What grows unseen or holds others up: wraparound, idle transactions, who waits for whom."""
    settings = load(MaintenanceSettings)
    told = health.database_health(connection, settings)
    for note in told.notes:
        yield NOT_SEEN(reason=note)
    for found in told.findings:
        if found.what == "connections":  # told above, with the chat's own part in it
            continue
        yield HEALTH(found.level, what=found.what[:1].upper() + found.what[1:], what_zh=_HEALTH_ZH.get(found.what, found.what),
            where=found.where, detail=found.detail.rstrip("."), mend=found.mend,
        )  # fmt: skip


def slow(connection: Connection) -> Iterator[Finding]:
    """Statements that run long now, and those that are slow each time."""
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
    reason = snapshots.missing(connection, can)
    if reason:
        yield NO_STATEMENTS(reason=reason)
        return
    limit = load(MaintenanceSettings).slow_query_ms
    try:
        slowest = snapshots.slowest(connection, can, limit, _OFTEN, _SHOWN)
    except psycopg.Error as error:  # the extension is older than its server
        yield NO_STATEMENTS(reason=error.diag.message_primary or error)
        return
    for text, ms, calls in slowest:
        yield SLOW(ms=f"{ms:.0f}", calls=calls, text=_short(text))


def _short(text: str) -> str:
    """The statement without its values, on one line."""
    line = snapshots.normalised(text)
    return line if len(line) <= 160 else line[:159] + "…"
