"""Dagster: its database, its daemon and UI, its code, and what it says of schedules, runs and checks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
from prometheus_client import Metric

from console.doctor.areas.postgresql import connected, impatient, way
from console.doctor.kinds import Finding, Kind
from console.doctor.site import Site
from knowledge.database import DatabaseUnavailable, connect
from serving.operations.dagster_figures import dagster_figures
from zhiyun.settings import AlertSettings, StackSettings, load

_LOCATIONS = """{ workspaceOrError { __typename ... on PythonError { message } ... on Workspace { locationEntries {
  name loadStatus locationOrLoadError { __typename ... on PythonError { message } } } } } }"""

WELL = Kind(
    "pipeline.well", "ok",
    ("The daemon was heard of {age} s ago; {clocks} schedules and sensors run", "守护进程 {age} 秒前有心跳；{clocks} 个定时与传感器在运行"),
)  # fmt: skip
UI_DOWN = Kind(
    "pipeline.ui_down", "error",
    ("The Dagster UI at {address} does not answer: {reason}.", "Dagster 界面 {address} 没有应答：{reason}。"),
    ("`zhiyun status`, then `zhiyun down; zhiyun up`; or correct DAGSTER_HOST and DAGSTER_PORT.",
     "`zhiyun status`，然后 `zhiyun down; zhiyun up`；或改正 DAGSTER_HOST 与 DAGSTER_PORT。"),
)  # fmt: skip
CODE = Kind(
    "pipeline.code_not_loaded", "error",
    ("Dagster cannot load its code location {name}: {reason}", "Dagster 无法加载代码位置 {name}：{reason}"),
    ("See why: `python -c 'import orchestration.definitions'`; then `zhiyun down; zhiyun up`.",
     "查看原因：`python -c 'import orchestration.definitions'`；然后 `zhiyun down; zhiyun up`。"),
)  # fmt: skip
SILENT = Kind(
    "pipeline.daemon_silent", "error",
    ("Dagster's daemon gives no sign of life since {age} ({parts}): no schedule starts, so there is no backup tonight.",
     "Dagster 守护进程已 {age} 没有心跳（{parts}）：定时任务不会启动，今晚不会有备份。"),
    ("`zhiyun status`, then `zhiyun down; zhiyun up`; its log is daemon.log.", "`zhiyun status`，然后 `zhiyun down; zhiyun up`；日志为 daemon.log。"),
)  # fmt: skip
NEVER_BEAT = Kind(
    "pipeline.daemon_never_ran", "error",
    ("Dagster's daemon has never run with this database: no schedule starts.", "Dagster 守护进程从未在此数据库上运行：定时任务不会启动。"),
    ("`zhiyun up`, or `dagster-daemon run` with this DAGSTER_HOME.", "`zhiyun up`，或用同一 DAGSTER_HOME 执行 `dagster-daemon run`。"),
)  # fmt: skip
OFF = Kind(
    "pipeline.switched_off", "error",
    ("The {kind} {name} is switched off: what it starts is not done.", "{kind} {name} 已关闭：它负责的任务不会执行。"),
    ("Switch it on under Automation in the Dagster UI: {address}/automation", "在 Dagster 界面的 Automation 中打开：{address}/automation"),
)  # fmt: skip
FAILED = Kind(
    "pipeline.job_failed", "error",
    ("The last run of the job {job} failed, {age} ago.", "作业 {job} 最近一次运行失败，{age} 前。"),
    ("See why, and run it again: {address}/runs", "查看原因并重新运行：{address}/runs"),
)  # fmt: skip
STUCK = Kind(
    "pipeline.silent_runs", "error",
    ("{count} runs in progress report nothing for more than {minutes} minutes: their processes may have been killed.",
     "{count} 个运行中的任务超过 {minutes} 分钟没有任何消息：其进程可能已被终止。"),
    ("Look at them, and terminate those that do not go on: {address}/runs", "查看并终止不再前进的任务：{address}/runs"),
)  # fmt: skip
CHECK = Kind(
    "pipeline.check_failed", "warning",
    ("The check {check} of {asset} fails.", "资产 {asset} 的检查 {check} 未通过。"),
    ("See it: {address}/assets/{asset}?view=checks", "查看：{address}/assets/{asset}?view=checks"),
)  # fmt: skip
NO_FIGURES = Kind(
    "pipeline.no_figures", "error",
    ("Dagster's database has none of its tables.", "Dagster 的数据库中没有它的表。"),
    ("`zhiyun up` makes them, or `dagster instance migrate`.", "`zhiyun up` 会创建，或执行 `dagster instance migrate`。"),
)  # fmt: skip
SLOW_FIGURES = Kind(
    "pipeline.database_slow", "error",
    ("Dagster's database is reached, but does not tell within 2 s how runs and schedules are: it is overloaded, or locked.",
     "Dagster 的数据库可连接，但 2 秒内无法给出运行与定时任务的状态：过载或被锁。"),
    ("See who holds it up: `zhiyun doctor database machine`.", "查看原因：`zhiyun doctor database machine`。"),
)  # fmt: skip
QUARANTINED = Kind(
    "pipeline.documents_quarantined", "warning",
    ("{count} documents could not be taken in; the first is {path}: {reason}", "{count} 份文档未能入库，第一份是 {path}：{reason}"),
    ("Mend the file, then `zhiyun ingest`; all are in the asset source_documents in the Dagster UI.",
     "修复文件后 `zhiyun ingest`；全部列表见 Dagster 界面的 source_documents。"),
)  # fmt: skip


def check(site: Site) -> Iterator[Finding]:
    """Everything about DAGSTER_DATABASE_URL, the daemon and the UI."""
    address = site.dagster()
    yield from _ui(address)
    stack, alerts = load(StackSettings), load(AlertSettings)
    yield from way(stack.dagster_database_url, "DAGSTER_DATABASE_URL", site)
    with connected(stack.dagster_database_url, "DAGSTER_DATABASE_URL", site) as connection:
        made = connection.execute("SELECT to_regclass('runs') IS NOT NULL").fetchone() == (True,)
    if not made:
        yield NO_FIGURES()
        return
    families = {family.name: family for family in asyncio.run(dagster_figures(stack.dagster_database_url, alerts))}
    if families["zhiyun_dagster_up"].samples[0].value == 0:
        yield SLOW_FIGURES()
        return
    yield from _figures(families, alerts, address)
    yield from _quarantined()


def _ui(address: str) -> Iterator[Finding]:
    try:
        answer = httpx.post(f"{address}/graphql", json={"query": _LOCATIONS}, timeout=10, trust_env=False)
        workspace: dict[str, Any] = answer.json()["data"]["workspaceOrError"]
    except httpx.TransportError as error:
        yield UI_DOWN(address=address, reason=" ".join(str(error).split()) or type(error).__name__)
        return
    except (ValueError, KeyError, TypeError):
        yield UI_DOWN(address=address, reason="another program has that port")
        return
    if "message" in workspace:
        yield CODE(name="zhiyun", reason=_first_line(workspace["message"]))
    entries: list[dict[str, Any]] = workspace.get("locationEntries", [])
    for entry in entries:
        loaded: dict[str, str] = entry.get("locationOrLoadError") or {}
        if "message" in loaded:
            yield CODE(name=entry["name"], reason=_first_line(loaded["message"]))


def _figures(families: dict[str, Metric], alerts: AlertSettings, address: str) -> Iterator[Finding]:
    now = time.time()

    def samples(name: str) -> list[tuple[dict[str, str], float]]:
        return [(sample.labels, sample.value) for sample in families[f"zhiyun_dagster_{name}"].samples]

    beats = samples("heartbeat_timestamp_seconds")
    limit = alerts.heartbeat_minutes * 60
    silent = [(labels["daemon"], now - at) for labels, at in beats if now - at > limit]
    if silent:
        oldest = max(age for _, age in silent)
        yield SILENT(age=_age(oldest), parts=", ".join(sorted(part for part, _ in silent)))
    elif not beats:
        yield NEVER_BEAT()
    off = [labels for labels, value in samples("switched_off") if value]
    for labels in off:
        yield OFF(kind=labels["type"].lower(), name=labels["name"], address=address)
    ended = {labels["dagster_job"]: at for labels, at in samples("job_ended_timestamp_seconds")}
    for labels, bad in samples("job_failed"):
        if bad:
            job = labels["dagster_job"]
            yield FAILED(job=job, age=_age(now - ended.get(job, now)), address=address)
    stuck = int(samples("silent_runs")[0][1])
    if stuck:
        yield STUCK(count=stuck, minutes=f"{alerts.silent_minutes:g}", address=address)
    for labels, bad in samples("check_failed"):
        if bad:
            severity = "warning" if labels["severity"] == "warning" else "error"
            yield CHECK(severity, check=labels["check"], asset=labels["asset"], address=address)
    if beats and not silent:
        clocks = len(samples("switched_off")) - len(off)
        yield WELL(age=f"{now - max(at for _, at in beats):.0f}", clocks=clocks)


def _quarantined() -> Iterator[Finding]:
    """Documents that stayed out, of the record; whether PostgreSQL answers is told elsewhere."""
    try:
        with connect(impatient(), "zhiyun doctor") as connection:
            rows = connection.execute(
                "SELECT path, coalesce(reason, ''), count(*) OVER () FROM knowledge.documents WHERE status = 'failed' "
                "ORDER BY path LIMIT 1"
            ).fetchall()
    except (DatabaseUnavailable, psycopg.Error):  # and whether its tables are there
        return
    for path, reason, count in rows:
        yield QUARANTINED(count=count, path=path, reason=reason)


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:300] if lines else "no reason"
