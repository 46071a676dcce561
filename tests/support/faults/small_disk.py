"""A small disk that a test can really fill."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class SmallDisk:
    """A filesystem of its own at `path`."""

    path: Path

    @property
    def percent(self) -> float:
        figures = os.statvfs(self.path)
        return 100 * (1 - figures.f_bavail / figures.f_blocks)

    def fill_to(self, percent: float) -> None:
        """Take or give back room with one file, until so much of the disk is used."""
        ballast = self.path / "ballast"
        ballast.unlink(missing_ok=True)
        figures = os.statvfs(self.path)
        wanted = int(figures.f_blocks * percent / 100) - (figures.f_blocks - figures.f_bavail)
        with ballast.open("wb") as stream:
            if wanted > 0:
                os.posix_fallocate(stream.fileno(), 0, min(wanted, figures.f_bavail) * figures.f_frsize)

    def fill_whole(self) -> None:
        """Not one byte is left."""
        self.fill_to(100)
        with contextlib.suppress(OSError), (self.path / "last").open("wb", buffering=0) as stream:
            while True:
                stream.write(b"x" * 4096)
        assert os.statvfs(self.path).f_bavail == 0

    def empty(self) -> None:
        for name in ("ballast", "last"):
            (self.path / name).unlink(missing_ok=True)


@contextmanager
def small_disk(path: Path, megabytes: int, inodes: int = 0) -> Iterator[SmallDisk]:
    """A tmpfs at `path`, with so many inodes (0: as many as it likes).

    The test is skipped, and says so, where none can be mounted.
    """
    path.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755{f',nr_inodes={inodes}' if inodes else ''}", "zhiyun-test", str(path)],
        capture_output=True, text=True, check=False,
    ) if os.geteuid() == 0 else None  # fmt: skip
    if mounted is None or mounted.returncode:
        why = mounted.stderr.strip() if mounted else "only root may mount"
        pytest.skip(f"no small disk can be mounted here to be really filled: {why}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)
