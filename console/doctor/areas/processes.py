"""The processes of the embedded stack: whether they run, why one does not, and what their logs say."""

from __future__ import annotations

import errno
import json
import socket
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from console.doctor.kinds import Finding, Kind
from console.doctor.site import Site, attempt
from embedded.services.ports import is_free, reachable
from embedded.services.processes import last_lines, session_members
from embedded.status import status
from zhiyun.settings import ServingSettings, StackSettings, load

_DID_NOT_START = "zhiyun did not start: "
_SINCE = timedelta(hours=1)
_LATELY = timedelta(hours=24)
_TAIL = 256 * 1024

WELL = Kind(
    "processes.well", "ok",
    ("{services} services run and answer, process {pid}, log folder {logs}", "{services} 个服务均在运行并应答，进程 {pid}，日志目录 {logs}"),
)  # fmt: skip
ELSEWHERE = Kind(
    "processes.elsewhere", "ok",
    ("The services are those of the URLs in the settings; their processes are not looked at from here",
     "服务由设置中的 URL 指定，这里不检查其进程"),
)  # fmt: skip
NOT_RUNNING = Kind(
    "processes.not_running", "error",
    ("zhiyun does not run with ZHIYUN_HOME={home}; the last one was stopped.", "ZHIYUN_HOME={home} 的 zhiyun 没有运行；上一次是正常停止的。"),
    ("`zhiyun up`", "`zhiyun up`"),
)  # fmt: skip
NEVER = Kind(
    "processes.never_started", "error",
    ("zhiyun has never run with ZHIYUN_HOME={home}.", "ZHIYUN_HOME={home} 的 zhiyun 从未运行过。"),
    ("`zhiyun up`; or set ZHIYUN_HOME to the folder that it runs in.", "`zhiyun up`；或把 ZHIYUN_HOME 设为它实际运行的目录。"),
)  # fmt: skip
KILLED = Kind(
    "processes.killed", "error",
    ("zhiyun does not run with ZHIYUN_HOME={home}: it was killed, or the machine went down.",
     "ZHIYUN_HOME={home} 的 zhiyun 没有运行：它被强行终止，或机器曾断电。"),
    ("`zhiyun up`; nothing that was acknowledged is lost. `dmesg -T | tail` may say who killed it.",
     "`zhiyun up`；已确认的数据不会丢失。`dmesg -T | tail` 可能说明是谁终止的。"),
)  # fmt: skip
FAILED = Kind(
    "processes.start_failed", "error",
    ("zhiyun did not start: {reason}", "zhiyun 启动失败：{reason}"),
    ("Mend that, then `zhiyun up`; more is in {log}: `tail -50 {log}`.", "解决后执行 `zhiyun up`；详情：`tail -50 {log}`。"),
)  # fmt: skip
STARTING = Kind(
    "processes.starting", "note",
    ("zhiyun is {phase} (process {pid}).", "zhiyun 正在启动或停止（{phase}，进程 {pid}）。"),
    ("Look again in a minute: `zhiyun status`.", "一分钟后再看：`zhiyun status`。"),
)  # fmt: skip
UNHEALTHY = Kind(
    "processes.service_down", "error",
    ("{service} does not answer ({state}): {said}", "服务 {service} 没有应答（{state}）：{said}"),
    ("It is started again by itself; if that does not help: `tail -50 {log}`, then `zhiyun down; zhiyun up`.",
     "它会被自动重启；若无效：`tail -50 {log}`，然后 `zhiyun down; zhiyun up`。"),
)  # fmt: skip
RESTARTED = Kind(
    "processes.service_restarted", "warning",
    ("{service} was started again {times} times since `zhiyun up`: {said}", "{service} 自 `zhiyun up` 以来被重启 {times} 次：{said}"),
    ("`tail -50 {log}`", "`tail -50 {log}`"),
)  # fmt: skip
PORT_TAKEN = Kind(
    "processes.port_taken", "error",
    ("{setting}={port} is in use by {who}, so zhiyun cannot start.", "{setting}={port} 已被 {who} 占用，zhiyun 无法启动。"),
    ("Stop that program (`{kill}`), or set {setting} to another port.", "停止该程序（`{kill}`），或把 {setting} 设为其他端口。"),
)  # fmt: skip
PORT_MOVES = Kind(
    "processes.default_port_taken", "note",
    ("Port {port} is in use by {who}, so {setting} will be another one.", "端口 {port} 已被 {who} 占用，{setting} 将使用其他端口。"),
    ("`zhiyun status` tells it once it runs; set {setting} to have a fixed one.", "启动后 `zhiyun status` 可查；如需固定端口请设置 {setting}。"),
)  # fmt: skip
OTHER_USER = Kind(
    "processes.other_user", "error",
    ("ZHIYUN_HOME={home} belongs to user {owner}, so only {owner} and root see whether it is well.",
     "ZHIYUN_HOME={home} 属于用户 {owner}，只有 {owner} 和 root 能检查。"),
    ("`sudo -u {owner} zhiyun doctor`", "`sudo -u {owner} zhiyun doctor`"),
)  # fmt: skip
NO_ADDRESS = Kind(
    "processes.cannot_listen", "error",
    ("{setting}={port} on {host}: zhiyun cannot listen there: {reason}.", "{setting}={port}（{host}）：zhiyun 无法在此监听：{reason}。"),
    ("Set SERVING_HOST or DAGSTER_HOST to an address of this machine (`ip -brief address`), and {setting} to a port above 1023.",
     "把 SERVING_HOST 或 DAGSTER_HOST 设为本机地址（`ip -brief address`），{setting} 设为 1023 以上的端口。"),
)  # fmt: skip
LEFT_OVER = Kind(
    "processes.left_over", "warning",
    ("{count} processes of an earlier zhiyun still run: {who}.", "上一次 zhiyun 留下 {count} 个仍在运行的进程：{who}。"),
    ("`zhiyun down` stops them; the next `zhiyun up` does too.", "`zhiyun down` 可停止它们；下次 `zhiyun up` 也会。"),
)  # fmt: skip
ERRORS = Kind(
    "processes.errors_logged", "warning",
    ("The chat has logged {count} errors within the last hour, most often: {event}.", "对话服务在最近一小时记录了 {count} 条错误，最多的是：{event}。"),
    ("`tail -20 {log}`", "`tail -20 {log}`"),
)  # fmt: skip


def check(site: Site) -> Iterator[Finding]:
    """Whether everything runs that should, and if not, why."""
    if not site.embedded:
        yield ELSEWHERE()
    elif site.owner:
        yield OTHER_USER(home=site.place.home, owner=site.owner)
        return
    elif site.running:
        yield from _running(site)
    else:
        yield from _not_running(site)
    yield from _errors_logged(site.place.logs / "error.log")


def _running(site: Site) -> Iterator[Finding]:
    found = status(site.place)
    if found.phase != "ready":
        yield STARTING(phase=found.phase, pid=found.pid)
    supervisor = _lines(site.place.logs / "supervisor.log")
    for service in found.services:
        died = next((line for line in reversed(supervisor) if f" {service.name} died" in line), "")
        said = died or " | ".join(last_lines(Path(service.log), 1)) or "its log says nothing"
        if not service.healthy and found.phase == "ready":
            yield UNHEALTHY(service=service.name, state=service.state, said=said, log=service.log)
        elif service.restarts:
            lately = died and _age(died) < _LATELY
            yield RESTARTED(
                "warning" if lately else "note",
                service=service.name,
                times=service.restarts,
                said=said,
                log=service.log,
            )
    healthy = sum(service.healthy for service in found.services)
    if found.services and found.phase == "ready" and healthy == len(found.services):
        yield WELL(services=healthy, pid=found.pid, logs=site.place.logs)


def _not_running(site: Site) -> Iterator[Finding]:
    place = site.place
    left = session_members(place.leaders())
    if left:
        who = ", ".join(f"{attempt(one.name, psutil.Error) or '?'} ({one.pid})" for one in left[:5])
        yield LEFT_OVER(count=len(left), who=who)
    lines = _lines(place.logs / "supervisor.log")
    failed = next((line for line in reversed(lines) if _DID_NOT_START in line), "")
    phase = place.state().get("phase", "")
    if failed and (not lines[-1:] or failed == lines[-1] or _ended_with(lines, failed)):
        reason = failed.partition(_DID_NOT_START)[2]
        yield FAILED(reason=reason, log=place.logs / "supervisor.log")
    elif not lines and not phase:
        yield NEVER(home=place.home)
    elif phase == "stopped":
        yield NOT_RUNNING(home=place.home)
    else:
        yield KILLED(home=place.home)
    yield from _ports()


def _ended_with(lines: list[str], failed: str) -> bool:
    """Whether no later start came after that failure."""
    after = lines[len(lines) - lines[::-1].index(failed) :]
    return not any(" starting in " in line for line in after)


def _ports() -> Iterator[Finding]:
    stack, serving = load(StackSettings), load(ServingSettings)
    for setting, host, port, was_set in (
        ("SERVING_PORT", serving.host, serving.port, "port" in serving.model_fields_set),
        ("DAGSTER_PORT", stack.dagster_host, stack.dagster_port, "dagster_port" in stack.model_fields_set),
        ("QDRANT_PORT", "127.0.0.1", stack.qdrant_port, "qdrant_port" in stack.model_fields_set),
    ):
        reason = _no_way_to_listen(host, port)
        if reason:
            yield NO_ADDRESS(setting=setting, port=port, host=host, reason=reason)
            continue
        if is_free(port, host):
            continue
        who, kill = _holder(port, reachable(host))
        yield (PORT_TAKEN if was_set else PORT_MOVES)(setting=setting, port=port, who=who, kill=kill)


def _no_way_to_listen(host: str, port: int) -> str:
    """Why nobody at all could listen there; empty where only another program may be in the way."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return "" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
    return ""


def _age(line: str) -> timedelta:
    """How long ago the supervisor wrote this line; it begins with the local time."""
    try:
        return datetime.now() - datetime.strptime(line[:19], "%Y-%m-%d %H:%M:%S")
    except ValueError:
        return timedelta(0)


def _holder(port: int, host: str) -> tuple[str, str]:
    """Who has a port, and how it is stopped; only root sees other users' processes."""
    connections = attempt(lambda: psutil.net_connections(kind="tcp"), psutil.Error, OSError) or ()
    for one in connections:
        if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid:
            name = attempt(psutil.Process(one.pid).name, psutil.Error) or "a program"
            return f"{name} (process {one.pid})", f"kill {one.pid}"
    return "another program", f"ss -ltnp 'sport = :{port}'"


def _errors_logged(log: Path) -> Iterator[Finding]:
    """Lines of the chat's error log, as JSON."""
    since, events = datetime.now(UTC) - _SINCE, Counter[str]()
    for line in _lines(log):
        try:
            told = json.loads(line)
            at = datetime.fromisoformat(told["time"])
            if at >= since and told.get("level") in ("error", "critical"):
                events[str(told["event"])] += 1
        except (ValueError, KeyError, TypeError):
            continue
    if events:
        [(event, times)] = events.most_common(1)
        yield ERRORS(count=events.total(), event=f"{event} ({times})", log=log)


def _lines(log: Path) -> list[str]:
    """The end of a log."""
    try:
        with log.open("rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - _TAIL))
            return [line for line in stream.read().decode("utf-8", errors="replace").splitlines() if line.strip()]
    except OSError:
        return []
