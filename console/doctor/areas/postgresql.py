"""The way to a PostgreSQL: its hosts or its socket, and why no session begins."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
from psycopg import conninfo

from console.doctor.areas import network
from console.doctor.kinds import Finding, Kind, Unwell
from console.doctor.site import Site
from knowledge.database import Connection
from orchestration.capacity import connections
from zhiyun.settings import DatabaseSettings, load

_CONNECT_SECONDS = 5
# What doctor asks takes milliseconds; behind a lock, or on a server that is overloaded, it is told and not waited for.
_SESSION = "SET statement_timeout = '8s'; SET lock_timeout = '3s'"

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
LIMIT = Kind(
    "database.connection_limit",
    "error",
    (
        "{setting}: PostgreSQL at {where} lets no more sessions of this {of} in: {reason}. Most have: {most}.",
        "{setting}：{where} 的 PostgreSQL 对该{of_zh}的连接数限制已用满：{reason}。占用最多的：{most}。",
    ),
    (
        "Raise its limit: `{command}`; or lower DATABASE_POOL_MAX and restart the chat.",
        "提高该限制：`{command}`；或调低 DATABASE_POOL_MAX 并重启对话服务。",
    ),
)
HOST_DOWN = Kind(
    "database.host_down",
    "warning",
    (
        "{setting} names several hosts, and one does not answer: {where}.",
        "{setting} 列出了多个主机，其中一个没有应答：{where}。",
    ),
    (
        "Bring it back: `nc -vz {host} {port}`; the others serve meanwhile.",
        "恢复它：`nc -vz {host} {port}`；其余主机仍在服务。",
    ),
)

# libpq has no code for why no session began: its words, and those of a server that speaks Chinese.
_WRONG_PASSWORD = ("password authentication failed", "no password supplied", "认证失败", "認證失敗")
_USED_UP = ("too many clients", "remaining connection slots", "太多的客户", "连接位置", "连接槽")
_STARTING = ("starting up", "shutting down", "not yet accepting", "recovery mode", "正在启动", "正在关闭", "恢复模式")
_NOBODY_THERE = ("Connection refused", "No such file or directory", "拒绝连接", "没有那个文件或目录")


def way(url: str, setting: str, site: Site) -> Iterator[Finding]:
    """Go to each host that the URL names. Raises Unwell when none can be reached."""
    last: Unwell | None = None
    dead: list[Finding] = []
    reached = False
    for host, port in _places(url, setting):
        address = network.Address(setting, "PostgreSQL", host, port)
        try:
            if host.startswith("/"):
                _knock(address, site)
            else:
                yield from network.walk(address, site.start("PostgreSQL"), site.log("postgres"))
            reached = True
        except Unwell as unwell:
            last = unwell
            dead.append(HOST_DOWN(setting=setting, where=address.where, host=host, port=port))
    if last and not reached:
        raise last
    yield from dead


def connected(url: str, setting: str, site: Site, spare: str = "") -> Connection:
    """A session, to be closed by the caller's `with`. Raises Unwell with the reason why there is none.

    `spare` is a role that still gets in where ordinary ones do not, to see who has all the connections.
    """
    try:
        connection = psycopg.connect(
            url, autocommit=True, connect_timeout=_CONNECT_SECONDS, application_name="zhiyun-doctor"
        )
    except psycopg.ProgrammingError:
        raise Unwell(network.BAD_URL(setting=setting)) from None
    except psycopg.OperationalError as error:
        raise Unwell(_refusal(error, url, setting, site, spare)) from None
    connection.execute(_SESSION)
    return connection


def impatient() -> DatabaseSettings:
    """The platform's database for other areas: whoever looks at many things does not wait as long as the chat may."""
    return load(DatabaseSettings).model_copy(update={"connect_timeout": _CONNECT_SECONDS})


def most_have(used: connections.Connections) -> str:
    """Who has most of the connections."""
    return ", ".join(f"{who} ({state}) {number}" for who, state, number in used.by[:3])


def _places(url: str, setting: str) -> list[tuple[str, int]]:
    """Hosts with their ports, as libpq pairs them. None where libpq takes its own default."""
    try:
        options = conninfo.conninfo_to_dict(url)
        hosts = str(options.get("hostaddr") or options.get("host") or os.environ.get("PGHOST") or "").split(",")
        ports = str(options.get("port") or os.environ.get("PGPORT") or "").split(",")
        if len(ports) == 1:
            ports *= len(hosts)
        return [(host, int(port or 5432)) for host, port in zip(hosts, ports, strict=False) if host]
    except (ValueError, psycopg.ProgrammingError):
        raise Unwell(network.BAD_URL(setting=setting)) from None


def _knock(address: network.Address, site: Site) -> None:
    """Whether somebody listens on the socket in that folder."""
    file = Path(address.host) / f".s.PGSQL.{address.port}"
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_CONNECT_SECONDS)
        try:
            probe.connect(str(file))
        except (ConnectionRefusedError, FileNotFoundError):
            raise Unwell(_nobody(address.setting, str(file), site)) from None
        except OSError:  # a permission, say: the login tells
            return


def _nobody(setting: str, where: str, site: Site) -> Finding:
    told = {"setting": setting, "service": "PostgreSQL", "where": where}
    log = site.log("postgres")
    return network.OURS_REFUSED(**told, log=log) if log else network.REFUSED(**told, start=site.start("PostgreSQL"))


def _refusal(error: psycopg.OperationalError, url: str, setting: str, site: Site, spare: str) -> Finding:
    options = conninfo.conninfo_to_dict(url)
    where = f"{options.get('host') or 'the local socket'}:{options.get('port') or 5432}"
    role, name = str(options.get("user") or ""), str(options.get("dbname") or options.get("user") or "")
    said = " ".join(str(error).split())
    reason = said.rpartition("FATAL:")[2].strip().rpartition("致命错误:")[2].strip() or said
    told = {"setting": setting, "where": where, "role": role, "database": name, "reason": reason.rstrip(".")}

    def has(*words: str) -> bool:
        return any(word in said for word in words)

    if has(*_WRONG_PASSWORD):
        return PASSWORD(**told)
    if has(f'role "{role}" does not exist', f'角色 "{role}" 不存在', f'角色"{role}"不存在'):
        return NO_ROLE(**told)
    if has(f'database "{name}" does not exist', f'数据库 "{name}" 不存在', f'数据库"{name}"不存在'):
        return NO_DATABASE(**told)
    if has("pg_hba.conf"):
        return NOT_ALLOWED(**told)
    for of, of_zh, command in (
        ("role", "角色", f'ALTER ROLE "{role}" CONNECTION LIMIT -1;'),
        ("database", "数据库", f'ALTER DATABASE "{name}" CONNECTION LIMIT -1;'),
    ):
        if has(f"too many connections for {of}"):
            return LIMIT(**told, of=of, of_zh=of_zh, command=command, most=_who_has_them(spare) or "?")
    if has(*_USED_UP):
        return NO_PLACE(**told, most=_who_has_them(spare) or "?")
    if has(*_STARTING):
        return NOT_READY(**told, start=site.start("PostgreSQL"))
    if has(*_NOBODY_THERE):
        return _nobody(setting, where, site)
    return NOT_POSTGRES(**told, port=str(options.get("port") or 5432))


def _who_has_them(spare: str) -> str:
    """Superusers have places of their own."""
    if not spare:
        return ""
    with suppress(psycopg.Error), psycopg.connect(spare, autocommit=True, connect_timeout=3) as connection:
        return most_have(connections.of_postgres(connection))
    return ""
