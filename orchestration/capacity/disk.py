"""Disks: which folders are watched, how full their filesystems are, and what that means."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from knowledge.documents.sources import parse_sources
from zhiyun.settings import CapacitySettings, KnowledgeSettings, LogSettings, SettingsError, StackSettings, load

Level: TypeAlias = Literal["ok", "warning", "serious", "critical"]
LEVELS: tuple[Level, ...] = ("ok", "warning", "serious", "critical")

# Operators' manual, part 1, section 3.1.
_MANUAL = {
    "database": "/var/lib/postgresql",
    "vectors": "/var/lib/qdrant",
    "files": "/var/lib/minio",
    "logs": "/var/log",
}


@dataclass(frozen=True)
class Volume:
    """A folder whose disk is watched."""

    name: str
    path: Path


@dataclass(frozen=True)
class Filesystem:
    """A filesystem with the watched folders on it. Sizes in bytes, as `df` counts them.

    `used` and `free` leave out what is reserved for root: it is no room for the services.
    """

    volumes: tuple[Volume, ...]
    used: int
    free: int
    inodes: int  # 0 where the filesystem has no fixed number of them
    inodes_free: int

    @property
    def total(self) -> int:
        return self.used + self.free

    @property
    def name(self) -> str:
        """The folders on it: `database, vectors, logs`."""
        return ", ".join(volume.name for volume in self.volumes)

    @property
    def percent(self) -> float:
        """How full it is: of bytes or of inodes, whichever is worse."""
        of_bytes = 100 * self.used / self.total if self.total else 0.0
        of_inodes = 100 * (self.inodes - self.inodes_free) / self.inodes if self.inodes else 0.0
        return max(of_bytes, of_inodes)

    @property
    def by_inodes(self) -> bool:
        """Whether files, and not bytes, are what is running out."""
        return bool(self.total) and self.percent > 100 * self.used / self.total

    def percent_after(self, needs: int) -> float:
        """How full it would be with so many bytes more on it."""
        return max(self.percent, 100 * (self.used + needs) / self.total) if self.total else 100.0

    def told(self) -> str:
        """For example `logs (/var/log): 71.3 % of 20.0 GB used, 5.7 GB free`."""
        where = ", ".join(f"{volume.name} ({volume.path})" for volume in self.volumes)
        what = f" of {self.inodes:,} inodes" if self.by_inodes else f" of {size(self.total)}"
        return f"{where}: {self.percent:.1f} %{what} used, {size(self.free)} free"


@dataclass(frozen=True)
class Disks:
    """What was measured, and a sentence for each folder that could not be."""

    filesystems: tuple[Filesystem, ...]
    problems: tuple[str, ...]


def volumes(settings: CapacitySettings) -> list[Volume]:
    """The folders to watch: CAPACITY_VOLUMES, else the embedded stack's if there is one, else the manual's.

    Raises SettingsError where CAPACITY_VOLUMES cannot be understood.
    """
    if settings.volumes.strip():
        return _parse(settings.volumes)
    home = load(StackSettings).home
    if not (home / "postgres").is_dir():
        return [Volume(name, Path(path)) for name, path in _MANUAL.items()]
    logs = load(LogSettings)
    folder = Path(logs.dir).expanduser().absolute() if "dir" in logs.model_fields_set else home / "logs"
    found = [Volume("database", home / "postgres"), Volume("vectors", home / "qdrant"), *_sources()]
    found.append(Volume("logs", folder))
    if (home / "backups").is_dir():
        found.append(Volume("backups", home / "backups"))
    return found


def measure(watched: Sequence[Volume]) -> Disks:
    """Each filesystem once, with all watched folders that lie on it."""
    by_device: dict[int, list[Volume]] = {}
    figures: dict[int, os.statvfs_result] = {}
    problems: list[str] = []
    for volume in watched:
        try:
            device = volume.path.stat().st_dev
            figures[device] = os.statvfs(volume.path)
        except OSError as error:
            problems.append(
                f"{volume.name}: {volume.path} cannot be measured here ({error.strerror}); name the folder in "
                "CAPACITY_VOLUMES, and let this process see it."
            )
            continue
        by_device.setdefault(device, []).append(volume)
    found = [_filesystem(tuple(on_it), figures[device]) for device, on_it in by_device.items()]
    return Disks(tuple(found), tuple(problems))


def level(percent: float, settings: CapacitySettings) -> Level:
    """The manual's three levels; each begins above its threshold."""
    if percent > settings.critical_percent:
        return "critical"
    if percent > settings.serious_percent:
        return "serious"
    return "warning" if percent > settings.warning_percent else "ok"


def size(count: float) -> str:
    """Bytes for people: `0 B`, `1.5 MB`, `20.0 GB`."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(amount) < 1000:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def _filesystem(on_it: tuple[Volume, ...], figures: os.statvfs_result) -> Filesystem:
    block = figures.f_frsize
    return Filesystem(
        volumes=on_it,
        used=(figures.f_blocks - figures.f_bfree) * block,
        free=figures.f_bavail * block,
        inodes=figures.f_files,
        inodes_free=figures.f_favail,
    )


def _parse(text: str) -> list[Volume]:
    found: list[Volume] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, path = (piece.strip() for piece in part.partition("="))
        if not equals or not name or not path:
            raise SettingsError(
                f"CAPACITY_VOLUMES={text}: {part!r} is not name=folder; for example database=/var/lib/postgresql"
            )
        if any(volume.name == name for volume in found):
            raise SettingsError(f"CAPACITY_VOLUMES={text}: the name {name!r} is there twice")
        found.append(Volume(name, Path(path).expanduser().absolute()))
    return found


def _sources() -> list[Volume]:
    """The embedded stack's file store is the folders that it takes in."""
    sources = parse_sources(load(KnowledgeSettings).sources)
    if len(sources) == 1:
        return [Volume("files", sources[0].folder)]
    return [Volume(f"files.{source.name}", source.folder) for source in sources]
