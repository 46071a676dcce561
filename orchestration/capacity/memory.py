"""Memory: each service against its limit, from its control group if it has one of its own, else from its processes.

The limits are the manual's (part 1, section 3.3) where nothing sets others: chat 2 GB, worker 4, Redis 2, PostgreSQL 4.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from zhiyun.settings import CapacitySettings

_CGROUPS = Path("/sys/fs/cgroup")
_GIB = 1024**3


@dataclass(frozen=True)
class Process:
    """What is looked at of a process. `own` are bytes that it shares with nobody."""

    pid: int
    name: str
    command: tuple[str, ...]
    resident: int
    own: int
    cgroup: Path | None  # the folder of its memory control group, if that has a limit
    parent: int = 0


@dataclass(frozen=True)
class Memory:
    """What a service uses, in bytes, and where its limit comes from."""

    service: str
    used: int
    limit: int
    source: str
    processes: int

    @property
    def percent(self) -> float:
        return 100 * self.used / self.limit if self.limit else 0.0


def _runs(process: Process, *modules: str) -> bool:
    """Whether it is `python -m MODULE …`, or a program of that name."""
    words = process.command
    called = words[words.index("-m") + 1 : words.index("-m") + 2] if "-m" in words else ()
    scripts = {Path(word).name for word in words[:2]}
    return any(module in called or module in scripts for module in modules)


# The vector store has no limit in the manual; its figure is told without one.
_SERVICES: dict[str, Callable[[Process], bool]] = {
    "web": lambda process: _runs(process, "serving"),
    "worker": lambda process: _runs(process, "dagster", "dagster._daemon", "dagster-daemon"),
    "redis": lambda process: process.name.startswith(("redis-server", "valkey-server")) or _runs(process, "embedded.services.redis"),
    "postgres": lambda process: process.name in ("postgres", "postmaster"),
    "qdrant": lambda process: process.name == "qdrant" or _runs(process, "embedded.qdrant"),
}  # fmt: skip


def measure(settings: CapacitySettings, processes: Iterable[Process] | None = None) -> list[Memory]:
    """The services whose processes can be seen from here, and the machine (or container) as a whole."""
    seen = list(running() if processes is None else processes)
    limits = {
        "web": settings.memory_web_gb, "worker": settings.memory_worker_gb,
        "redis": settings.memory_redis_gb, "postgres": settings.memory_postgres_gb,
    }  # fmt: skip
    of = {name: _with_children([p for p in seen if belongs(p)], seen) for name, belongs in _SERVICES.items()}
    found: list[Memory] = []
    for name, mine in of.items():
        if not mine:
            continue
        others = [process for other, theirs in of.items() if other != name for process in theirs]
        group = _group_of_its_own(mine, others)
        measured = group_figures(group) if group else None
        if measured and measured[1] is not None:
            found.append(Memory(name, measured[0], measured[1], f"cgroup {group}", len(mine)))
        else:
            source = f"CAPACITY_MEMORY_{name.upper()}_GB" if name in limits else "no limit is set"
            found.append(Memory(name, resident(mine), int(limits.get(name, 0) * _GIB), source, len(mine)))
    found.append(machine())
    return found


def resident(processes: Iterable[Process]) -> int:
    """What they hold together: each one's own pages, and the shared ones once (PostgreSQL's buffers are in every worker)."""
    listed = list(processes)
    return sum(p.own for p in listed) + max((p.resident - p.own for p in listed), default=0)


def running() -> list[Process]:
    """The processes that can be seen from here."""
    found: list[Process] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            memory = process.memory_info()
            shared = int(getattr(memory, "shared", 0))
            group = _limited_group(process.pid)
            found.append(
                Process(
                    process.pid, process.name(), tuple(process.cmdline()), memory.rss, max(memory.rss - shared, 0), group,
                    process.ppid(),
                )
            )  # fmt: skip
    return found


def machine() -> Memory:
    """All memory: of the container if its control group has a limit, else of the machine."""
    total = psutil.virtual_memory()
    for folder in (_CGROUPS, _CGROUPS / "memory"):
        measured = group_figures(folder)
        if measured and measured[1] is not None and measured[1] < total.total:
            return Memory("machine", measured[0], measured[1], f"cgroup {folder}", 0)
    return Memory("machine", total.total - total.available, total.total, "the machine's memory", 0)


def group_figures(folder: Path) -> tuple[int, int | None] | None:
    """(bytes used, limit or None) of a memory control group, version 2 or 1; None if it is none.

    Pages of files that can be dropped at once do not count: the kernel fills every group with them.
    """
    for current, limit, stale in (
        ("memory.current", "memory.max", "inactive_file"),
        ("memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file"),
    ):
        try:
            used = int((folder / current).read_text())
            top = (folder / limit).read_text().strip()
            words = (folder / "memory.stat").read_text().split()
            cached = int(words[words.index(stale) + 1]) if stale in words else 0
        except (OSError, ValueError):
            continue
        # Version 1 writes "no limit" as the largest number of pages.
        unlimited = top == "max" or int(top) >= 1 << 60
        return max(used - cached, 0), None if unlimited else int(top)
    return None


def _limited_group(pid: int) -> Path | None:
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        folder = (_CGROUPS / "memory" if controllers else _CGROUPS) / path.lstrip("/")
        measured = group_figures(folder)
        if measured and measured[1] is not None:
            return folder
    return None


def _group_of_its_own(mine: list[Process], others: list[Process]) -> Path | None:
    """The control group that has all of these and none of the others; a shared one says nothing about a service."""
    groups = {process.cgroup for process in mine}
    if len(groups) != 1 or None in groups:
        return None
    [group] = groups
    return None if any(process.cgroup == group for process in others) else group


def _with_children(chosen: list[Process], seen: list[Process]) -> list[Process]:
    """The same with what they have started: uvicorn's workers, and Dagster's runs under their code server."""
    found = {process.pid: process for process in chosen}
    grown = True
    while grown:
        more = {p.pid: p for p in seen if p.parent in found and p.pid not in found}
        found |= more
        grown = bool(more)
    return list(found.values())
