"""Ports of the embedded stack: a default that is taken moves on, a port that was set does not."""

from __future__ import annotations

import socket


class PortTaken(RuntimeError):
    """A port that was set is in use. The message is one line and names the variable."""


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on the port now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: connections of an earlier server that linger in TIME_WAIT do not make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(avoid: set[int] | None = None, host: str = "127.0.0.1") -> int:
    """A port that the system says is free and that is not in `avoid`."""
    while True:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.bind((host, 0))
            port: int = probe.getsockname()[1]
        if port not in (avoid or set()):
            return port


def choose(
    variable: str, wanted: int, *, was_set: bool, last: int | None, avoid: set[int], host: str = "127.0.0.1"
) -> int:
    """The port for a service whose port is a setting.

    `wanted` if it is free; otherwise, unless it was set, the one used last time or one of the next hundred.
    Raises PortTaken naming `variable` when a port that was set is in use.
    """
    if wanted not in avoid and is_free(wanted, host):
        return wanted
    if was_set:
        raise PortTaken(
            f"{variable}={wanted}: port {wanted} on {host} is in use by another program; "
            f"stop that program or set {variable} to another port. Nothing was started."
        )
    for port in (last, *range(wanted + 1, min(wanted + 100, 65536))):
        if port and port not in avoid and is_free(port, host):
            return port
    return free_port(avoid, host)


def reachable(host: str) -> str:
    """The address under which a server that listens on `host` is reached from this machine, as a URL has it."""
    if host in ("0.0.0.0", ""):  # noqa: S104
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host


def internal(last: int | None, avoid: set[int]) -> int:
    """A port for a service that only the stack itself talks to: the one used last time if it is free."""
    if last and last not in avoid and is_free(last):
        return last
    return free_port(avoid)
