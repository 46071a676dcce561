"""Child processes that never outlive the stack: how they are started, told apart, and stopped."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class ServiceFailed(RuntimeError):
    """A service did not start. The message says what happened, in which log, and what to do."""


@dataclass(frozen=True)
class Service:
    """One program of the stack.

    `ready` is asked again and again, in a thread, and answers within some seconds. `after` names the services that
    have to be ready before this one starts. `once` marks a program that does its work and ends with status 0, such
    as the migrations; `awaited=False` one that the stack is ready without. `before_start` runs in a thread before each
    start, `after_ready` when it is ready for the first time. With a `port`, it is ready only when it is this very
    program that listens there, and not somebody else's that answers in the same way. A variable of `environment` that is None is taken out.
    """

    name: str
    command: list[str]
    ready: Callable[[], bool] = lambda: True
    after: tuple[str, ...] = ()
    environment: Mapping[str, str | None] = field(default_factory=dict[str, "str | None"])
    folder: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 3.0
    ready_seconds: float = 120.0
    once: bool = False
    awaited: bool = True
    before_start: Callable[[], None] | None = None
    after_ready: Callable[[], None] | None = None
    port: int | None = None
    hint: str = ""

    def spawn_options(self, log: Any) -> dict[str, Any]:
        """Arguments for `subprocess.Popen` and `asyncio.create_subprocess_exec`, without the command."""
        return {
            "cwd": self.folder,
            "env": child_environment(self.environment),
            "stdin": subprocess.DEVNULL,
            "stdout": log,
            "stderr": subprocess.STDOUT,
            "start_new_session": True,
            "preexec_fn": begin_afresh(self.stop_signal),
        }


def child_environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    """This process's environment with some variables set, or taken out where the value is None."""
    merged = {**os.environ, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def begin_afresh(death_signal: signal.Signals) -> Callable[[], None]:
    """Run in the child before its program: no signal is ignored, and the end of the thread that started it is told.

    A shell without job control starts `command &` with SIGINT ignored. That is inherited, and Dagster's processes,
    which treat SIGTERM as they treat SIGINT, would then ignore both.
    """
    libc, number, parent = _LIBC, int(death_signal), os.getpid()

    def begin() -> None:
        for ignored in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ignored, signal.SIG_DFL)
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    return begin


@dataclass(frozen=True)
class Identity:
    """A process, told apart from a later one with the same number by when it started (seconds since the epoch)."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """The identity of a process that runs now, None if there is none."""
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.Error:
            return None

    def process(self) -> psutil.Process | None:
        """The process if it still runs (a zombie does not)."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 1.0
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


def listens(pid: int, port: int) -> bool:
    """Whether the process, or one that descends from it, listens on the port. True where the system does not tell."""
    try:
        leader = psutil.Process(pid)
        return any(
            connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
            for process in (leader, *leader.children(recursive=True))
            for connection in process.net_connections(kind="tcp")
        )
    except psutil.AccessDenied:
        return True
    except psutil.Error:
        return False


def session_members(leaders: Iterable[Identity], own: int | None = None) -> list[psutil.Process]:
    """The leaders that run, their descendants, and whatever else is in the session of one of them.

    Dagster's run workers are children of the code server and share its session, and outlive it when it is killed.
    """
    identities = {leader.pid: leader for leader in leaders}
    alive = {leader.pid for leader in identities.values() if leader.process()}
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            session = os.getsid(process.pid)
        except (ProcessLookupError, PermissionError):
            continue
        leader = identities.get(session)
        if leader is None or process.pid == own:
            continue
        with contextlib.suppress(psutil.Error):
            # A session outlives its leader, and its number is not given out again while it has members; members
            # that started before the leader did belong to somebody else's.
            if process.create_time() >= leader.started - 1.0 and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = process
    for pid in alive:
        with contextlib.suppress(psutil.Error):
            found.update({child.pid: child for child in psutil.Process(pid).children(recursive=True)})
    found.pop(own or -1, None)
    return list(found.values())


def stop_processes(processes: list[psutil.Process], with_signal: signal.Signals, seconds: float) -> bool:
    """Signal the processes, wait, and kill those that stay. Whether all went by themselves."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(with_signal)
    left = _wait_gone(processes, seconds)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    _wait_gone(left, 2)
    return not left


def stop_left_over(processes: list[psutil.Process]) -> None:
    """PostgreSQL last and by SIGINT, so that it can write everything down."""
    databases = [process for process in processes if _name(process).startswith("postgres")]
    others = [process for process in processes if process not in databases]
    stop_processes(others, signal.SIGTERM, 3)
    pids = {process.pid for process in databases}
    stop_processes([one for one in databases if _parent(one) not in pids], signal.SIGINT, 6)
    stop_processes([one for one in databases if runs(one)], signal.SIGKILL, 1)


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:  # it ended meanwhile
        return ""


def _parent(process: psutil.Process) -> int:
    try:
        return process.ppid()
    except psutil.Error:  # it ended meanwhile
        return 0


def runs(process: psutil.Process) -> bool:
    """Whether the process still does something: a zombie that nobody collects does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _wait_gone(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    deadline = time.monotonic() + seconds
    left = [process for process in processes if runs(process)]
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [process for process in left if runs(process)]
    return left


def last_lines(log: Path, count: int = 5) -> list[str]:
    """The last lines of a log that are not empty, colours taken out, each cut to 300 characters."""
    lines = [line for line in last_text(log).splitlines() if line.strip()][-count:]
    return [_readable(line)[:300] for line in lines]


def last_text(log: Path, begin: int = 0) -> str:
    """The last 16 KiB of a log, or what it has since the byte `begin`; nothing if it cannot be read."""
    try:
        with log.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(begin, stream.tell() - 16_384))
            return stream.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def _readable(line: str) -> str:
    """Without colours; of a line in JSON, what happened."""
    try:
        told = json.loads(line)
        return str(told["event"]) if isinstance(told, dict) and "event" in told else line
    except ValueError:
        return _without_colours(line).rstrip()


def _without_colours(line: str) -> str:
    parts = line.split("\x1b[")
    return parts[0] + "".join(part.partition("m")[2] for part in parts[1:])


@contextlib.contextmanager
def running(service: Service, log: Path) -> Iterator[subprocess.Popen[Any]]:
    """Run one service for as long as the block lasts; for tests and tools. Raises ServiceFailed."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if service.before_start:
        service.before_start()
    with log.open("ab") as stream:
        process = subprocess.Popen(service.command, **service.spawn_options(stream))
    leader = Identity.of(process.pid)
    try:
        deadline = time.monotonic() + service.ready_seconds
        while not service.ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServiceFailed(f"{service.name} did not start: {' | '.join(last_lines(log))} (log: {log})")
            time.sleep(0.05)
        if service.after_ready:
            service.after_ready()
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(service.stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(service.stop_seconds)
        if leader:
            stop_processes(session_members([leader]), signal.SIGKILL, 2)
        process.wait()
