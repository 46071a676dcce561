"""Ports of the embedded stack: a default that is taken moves on, a port that was set does not."""

from __future__ import annotations

import socket
import sys


class PortTaken(RuntimeError):
    """A port that was set is in use. The message is one line and names the variable."""


class Claims:
    """Ports that this process has chosen, and that no other stack of this machine chooses while it lives.

    A service listens only seconds after its port was chosen; two stacks that start together would choose the same.
    The claim is an abstract Unix socket (Linux): it ends with the process, and leaves no file.
    """

    def __init__(self) -> None:
        self._held: dict[int, socket.socket] = {}

    def take(self, port: int, host: str = "127.0.0.1") -> bool:
        """Claim a port that nobody listens on. Whether it is ours now."""
        if port in self._held or not is_free(port, host):
            return False
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if sys.platform == "linux":
                claim.bind(f"\0zhiyun-port-{port}")
        except OSError:
            claim.close()
            return False
        self._held[port] = claim
        return True

    def release(self) -> None:
        """Give all of them back."""
        for claim in self._held.values():
            claim.close()
        self._held.clear()

    def named(self, variable: str, wanted: int, *, was_set: bool, last: int | None, host: str = "127.0.0.1") -> int:
        """The port for a service whose port is a setting.

        `wanted` if it is free; otherwise, unless it was set, the one used last time or one of the next hundred.
        Raises PortTaken naming `variable` when a port that was set is in use.
        """
        if self.take(wanted, host):
            return wanted
        if was_set:
            raise PortTaken(
                f"{variable}={wanted}: port {wanted} on {host} is in use by another program; "
                f"stop that program or set {variable} to another port. Nothing was started."
            )
        for port in (last, *range(wanted + 1, min(wanted + 100, 65536))):
            if port and self.take(port, host):
                return port
        return self.internal(None, host)

    def internal(self, last: int | None, host: str = "127.0.0.1") -> int:
        """A port for a service that only the stack itself talks to: the one used last time if it is free."""
        port = last or free_port(host)
        while not self.take(port, host):
            port = free_port(host)
        return port


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
        # As servers do: connections of an earlier server that linger in TIME_WAIT do not make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(host: str = "127.0.0.1") -> int:
    """A port that the system says is free."""
    with socket.socket(_family(host)) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    return port


def reachable(host: str) -> str:
    """The address under which a server that listens on `host` is reached from this machine, as a URL has it."""
    if host in ("0.0.0.0", ""):  # noqa: S104
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
