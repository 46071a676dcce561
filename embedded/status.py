"""`zhiyun status` and `zhiyun down`: what the running stack is asked from outside."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from embedded.layout import Layout
from embedded.services import probes
from embedded.services.passwords import passwords
from embedded.services.processes import Identity, listens, session_members, stop_left_over
from embedded.services.redis import Redis, find_binary

HEALTHY, UNHEALTHY, NOT_RUNNING = 0, 1, 3


@dataclass(frozen=True)
class ServiceStatus:
    """One service: its process, what the supervisor knows of it, and whether it answers now."""

    name: str
    pid: int | None
    state: str
    healthy: bool
    restarts: int
    log: str


@dataclass(frozen=True)
class Status:
    """The stack as a whole. `release` is the live release as the chat tells it, None if it does not."""

    running: bool
    phase: str
    pid: int | None
    home: str
    urls: dict[str, str]
    ready_seconds: float | None
    release: int | None
    services: tuple[ServiceStatus, ...]

    @property
    def exit_code(self) -> int:
        """0 all services answer, 1 some do not, 3 not running."""
        if not self.running:
            return NOT_RUNNING
        return HEALTHY if all(service.healthy for service in self.services) else UNHEALTHY

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {**asdict(self), "healthy": self.exit_code == HEALTHY}

    def as_text(self) -> str:
        """For people."""
        if not self.running:
            return f"zhiyun is not running with ZHIYUN_HOME={self.home}; start it with `zhiyun up`"
        release = f"release {self.release}" if self.release is not None else "no release yet"
        lines = [f"zhiyun is {self.phase} (process {self.pid}), {release}", ""]
        for service in self.services:
            word = "healthy" if service.healthy else f"NOT HEALTHY ({service.state}), log: {service.log}"
            again = f", restarted {service.restarts} times" if service.restarts else ""
            lines.append(f"  {service.name:<12} {service.pid or '-':>8}  {word}{again}")
        lines += ["", *(f"  {name:<12} {url}" for name, url in self.urls.items())]
        return "\n".join(lines)


def status(place: Layout) -> Status:
    """Ask every service of the running stack, all at once."""
    state = place.state()
    running = place.is_running()
    services = state.get("services", {}) if running else {}
    found: list[ServiceStatus] = []
    with ThreadPoolExecutor(max_workers=12) as pool:
        asked = _probes(place, state) if running else {}
        answers = {name: pool.submit(asked[name]) for name in services if name in asked}
        release = pool.submit(_release, state.get("urls", {}).get("chat", "")) if running else None
        for name, told in services.items():
            if name not in answers:  # it did its work and ended
                continue
            pid, port = told.get("pid"), told.get("port")
            healthy = answers[name].result() and (not port or (bool(pid) and listens(pid, port)))
            found.append(ServiceStatus(name, pid, told["state"], healthy, told["restarts"], told["log"]))
    return Status(
        running=running,
        phase=str(state.get("phase", "unknown")) if running else "stopped",
        pid=state.get("pid") if running else None,
        home=str(place.home),
        urls=state.get("urls", {}) if running else {},
        ready_seconds=state.get("started", {}).get("ready_seconds") if running else None,
        release=release.result() if release else None,
        services=tuple(found),
    )


def down(place: Layout, say: Callable[[str], None], seconds: float = 30.0) -> int:
    """Ask the running `zhiyun up` to stop, and wait until it has. The exit status."""
    if not place.is_running():
        left = session_members(place.leaders(), own=os.getpid())
        if left:
            say(f"zhiyun is not running; stopping {len(left)} processes that it left behind")
            stop_left_over(left)
        else:
            say(f"zhiyun is not running with ZHIYUN_HOME={place.home}")
        return 0
    supervisor = _wait_for_supervisor(place)
    if not supervisor:
        say(f"zhiyun holds {place.run / 'lock'}, but its process cannot be found; stop it by hand")
        return 1
    say(f"stopping zhiyun (process {supervisor.pid})")
    try:
        os.kill(supervisor.pid, signal.SIGTERM)
    except PermissionError:
        say(f"process {supervisor.pid} belongs to another user; stop zhiyun as that user")
        return 1
    except ProcessLookupError:
        pass  # it ended meanwhile
    deadline = time.monotonic() + seconds
    while place.is_running():
        if time.monotonic() > deadline:
            say(f"process {supervisor.pid} has not ended within {seconds:.0f} s; see {place.logs / 'supervisor.log'}")
            return 1
        time.sleep(0.1)
    say("zhiyun has stopped")
    return 0


def _wait_for_supervisor(place: Layout) -> Identity | None:
    """A `zhiyun up` that has only just started writes its number down within a moment."""
    for _ in range(50):
        found = place.supervisor()
        if found:
            return found
        time.sleep(0.1)
    return None


def _probes(place: Layout, state: dict[str, Any]) -> dict[str, Callable[[], bool]]:
    ports, urls = state.get("ports", {}), state.get("urls", {})
    if not ports or not urls:
        return {}
    password = passwords(place.home, "postgresql:zhiyun")["postgresql:zhiyun"]
    database = f"postgresql://zhiyun:{password}@127.0.0.1:{ports['postgres']}"
    return {
        "postgres": probes.postgres(f"{database}/zhiyun"),
        "redis": Redis(place.home, ports["redis"], find_binary()).answers,
        "qdrant": probes.http(f"{urls['qdrant']}/readyz"),
        "code-server": probes.grpc(ports["code"]),
        "webserver": probes.http(f"{urls['dagster']}/server_info"),
        "daemon": probes.daemon(f"{database}/dagster"),
        "serving": probes.http(f"{urls['chat']}/api/health/live"),
    }


def _release(chat: str) -> int | None:
    import httpx

    try:
        number = httpx.get(f"{chat}/api/health", timeout=5, trust_env=False).json().get("release")
    except (httpx.HTTPError, ValueError, AttributeError):
        return None
    return number if isinstance(number, int) else None
