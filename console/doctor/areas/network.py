"""The way to a service, step by step: its name, its port, its certificate. The first step that fails is the cause."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from console.doctor.kinds import Finding, Kind, Unwell

_SECONDS = 5.0
_FAR_MS = 100.0  # a connection within one site takes less than one; a question needs several, one after another
_TRIES = 3  # before a way is called slow: a busy machine holds up one connection, a slow network every one

NO_HOST = Kind(
    "network.no_such_host", "error",
    ("{setting}: the host {host} of {service} has no address ({reason}).",
     "{setting}：{service} 的主机名 {host} 无法解析（{reason}）。"),
    ("Correct the host in {setting}, or its DNS entry: `getent hosts {host}`.",
     "改正 {setting} 中的主机名，或修复 DNS：`getent hosts {host}`。"),
)  # fmt: skip
BAD_URL = Kind(
    "network.bad_url",
    "error",
    (
        "{setting} cannot be read as a URL. In a password `#`, `/`, `?`, `@` and `%` are written as %23, %2F, %3F, %40 and %25.",
        "{setting} 不是可识别的 URL。密码中的 `#`、`/`、`?`、`@`、`%` 要写成 %23、%2F、%3F、%40、%25。",
    ),
    (
        "Correct it in the environment or in .env: `python3 -c 'from getpass import getpass; from urllib.parse import quote; "
        'print(quote(getpass(), safe=""))\'` writes a password as a URL has it.',
        "在环境变量或 .env 中改正：`python3 -c 'from getpass import getpass; from urllib.parse import quote; "
        'print(quote(getpass(), safe=""))\'` 可得到密码在 URL 中的写法。',
    ),
)
REFUSED = Kind(
    "network.refused", "error",
    ("{setting}: nothing listens on {where}, so {service} does not run there or has another port.",
     "{setting}：{where} 没有程序在监听，{service} 没有运行，或端口不对。"),
    ("Start it: `{start}`; or correct {setting}.", "启动它：`{start}`；或改正 {setting}。"),
)  # fmt: skip
OURS_REFUSED = Kind(
    "network.own_service_down",
    "error",
    (
        "Nothing listens on {where}: {service}, which `zhiyun up` keeps running, is down.",
        "{where} 没有程序在监听：由 `zhiyun up` 维持的 {service} 已停止。",
    ),
    (
        "It is started again by itself, every half a minute at the latest; why it stops is in its log: `tail -20 {log}`. "
        "Mend that and leave the rest running: a restart of all drops messages that wait to be stored.",
        "它会自动重启，最迟每半分钟一次；停止的原因在日志中：`tail -20 {log}`。解决原因即可，不要重启整个服务：等待保存的消息会丢失。",
    ),
)
SILENT = Kind(
    "network.no_answer", "error",
    ("{setting}: {where} ({service}) gives no answer within {seconds} s: a firewall drops it, or the host is down.",
     "{setting}：{where}（{service}）{seconds} 秒内没有回应：被防火墙丢弃，或主机已宕机。"),
    ("Check the way there: `nc -vz -w 5 {host} {port}` and the firewall of both hosts.",
     "检查网络：`nc -vz -w 5 {host} {port}`，以及两端的防火墙。"),
)  # fmt: skip
NO_ROUTE = Kind(
    "network.unreachable", "error",
    ("{setting}: {where} ({service}) cannot be reached: {reason}.",
     "{setting}：无法到达 {where}（{service}）：{reason}。"),
    ("Check the network: `ip route get {host}`.", "检查网络：`ip route get {host}`。"),
)  # fmt: skip
FAR = Kind(
    "network.slow", "warning",
    ("{setting}: a connection to {where} ({service}) takes {ms} ms, and every question needs several.",
     "{setting}：连接 {where}（{service}）需要 {ms} 毫秒，而每个问题都要往返多次。"),
    ("Look for the delay with `ping -c 5 {host}` and `traceroute {host}`, and keep the services in one network.",
     "用 `ping -c 5 {host}` 和 `traceroute {host}` 查找延迟，并把各服务放在同一网络。"),
)  # fmt: skip
UNTRUSTED = Kind(
    "network.certificate", "error",
    ("{setting}: the certificate of {where} ({service}) is not accepted: {reason}.",
     "{setting}：{where}（{service}）的证书不被信任：{reason}。"),
    ("See it with `openssl s_client -connect {where} -servername {host}`; renew it, correct the host in {setting}, or name "
     "the issuer in SSL_CERT_FILE.",
     "用 `openssl s_client -connect {where} -servername {host}` 查看；续期证书、改正 {setting} 的主机名，或在 SSL_CERT_FILE 中指定签发者。"),
)  # fmt: skip
NO_TLS = Kind(
    "network.not_tls", "error",
    ("{setting}: {where} ({service}) does not speak TLS ({reason}).",
     "{setting}：{where}（{service}）不支持 TLS（{reason}）。"),
    ("Write http:// (redis://) in {setting}, or switch TLS on at the server.",
     "把 {setting} 写成 http://（redis://），或在服务端启用 TLS。"),
)  # fmt: skip


@dataclass(frozen=True)
class Address:
    """A service's address as a setting has it."""

    setting: str
    service: str
    host: str
    port: int
    tls: bool = False

    @property
    def where(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def of(cls, url: str, setting: str, service: str, default: int | None = None) -> Address:
        """Of `http://host:port/…`, `rediss://…` and so on; without a port `default`, else the scheme's own.

        Raises Unwell: what is wrong with a URL is told without a word of it, since a password may be anywhere in it.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or default or (443 if parts.scheme == "https" else 80)
        except ValueError:
            raise Unwell(BAD_URL(setting=setting)) from None
        return cls(setting, service, parts.hostname or "127.0.0.1", port, parts.scheme == "https")


def walk(address: Address, start: str, log: Path | None = None) -> Iterator[Finding]:
    """Go the way, and say what is slow about it. Raises Unwell with the step that fails.

    `start` is the command that starts the service; `log` is that of a service which the running stack starts by itself.
    """
    told: dict[str, object] = {
        "setting": address.setting,
        "service": address.service,
        "host": address.host,
        "port": address.port,
        "where": address.where,
    }
    try:
        family, _, _, _, place = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise Unwell(NO_HOST(**told, reason=getattr(error, "strerror", None) or error)) from None
    began = time.monotonic()
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(_SECONDS)
        try:
            connection.connect(place)
        except TimeoutError:
            raise Unwell(SILENT(**told, seconds=f"{_SECONDS:g}")) from None
        except ConnectionRefusedError:
            raise Unwell(OURS_REFUSED(**told, log=log) if log else REFUSED(**told, start=start)) from None
        except OSError as error:
            raise Unwell(NO_ROUTE(**told, reason=error.strerror or error)) from None
        ms = (time.monotonic() - began) * 1000
        if address.tls:
            _shake_hands(connection, address, told)
    ms = _again(family, place, ms)
    if ms > _FAR_MS:
        yield FAR(**told, ms=f"{ms:.0f}")


def _again(family: socket.AddressFamily, place: tuple[Any, ...], ms: float) -> float:
    """What the fastest of a few connections took, in milliseconds; none is made after one that was fast."""
    for _ in range(_TRIES - 1):
        if ms <= _FAR_MS:
            break
        began = time.monotonic()
        with suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as connection:  # it was reached a moment ago
            connection.settimeout(_SECONDS)
            connection.connect(place)
            ms = min(ms, (time.monotonic() - began) * 1000)
    return ms


def _shake_hands(connection: socket.socket, address: Address, told: dict[str, object]) -> None:
    try:
        # The authorities that the clients believe: those of certifi, or of SSL_CERT_FILE.
        with httpx.create_ssl_context().wrap_socket(connection, server_hostname=address.host):
            return
    except ssl.SSLCertVerificationError as error:
        raise Unwell(UNTRUSTED(**told, reason=error.verify_message)) from None
    except ssl.SSLError as error:
        raise Unwell(NO_TLS(**told, reason=error.reason or error)) from None
    except (TimeoutError, OSError) as error:
        raise Unwell(NO_TLS(**told, reason=str(error) or type(error).__name__)) from None


def is_loopback(host: str) -> bool:
    """Whether the host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
