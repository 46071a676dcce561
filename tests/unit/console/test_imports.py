"""A command loads what it needs and no more: people wait for `zhiyun --help`, and scripts call `zhiyun status` all day."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from zhiyun.repository import REPOSITORY

CLIENTS = {"qdrant_client", "boto3", "botocore", "psycopg", "redis", "httpx"}
"""The stores' clients."""
PLATFORM = {"dagster", "sqlalchemy", "litestar", "numpy", "scipy", "torch", "sentence_transformers", "structlog"}
"""What the services run on."""
SETTINGS = {"pydantic", "pydantic_settings"}


def loaded(home: Path, *arguments: str, **settings: str) -> tuple[int, str, set[str]]:
    """One command in a process of its own: its exit status, what it printed, and the packages that it loaded."""
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "console", *arguments],
        cwd=home,  # there is no `.env` of the developer's
        env={**environment, "PYTHONPATH": str(REPOSITORY), "ZHIYUN_HOME": str(home / "zhiyun"), **settings},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    names = re.findall(r"(?m)^import time: +\d+ \| +\d+ \| +(\w+)", done.stderr)
    assert "argparse" in names, done.stderr  # the list is one of imports
    return done.returncode, done.stdout, set(names)


@pytest.mark.parametrize("arguments", [("--help",), ("backup", "--help"), ("version",)])
def test_help_and_version_need_not_even_the_settings(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    status, said, packages = loaded(tmp_path, *arguments)
    assert status == 0
    assert said
    assert not packages & (CLIENTS | PLATFORM | SETTINGS)


@pytest.mark.parametrize(("command", "status"), [("status", 3), ("env", 3), ("down", 0)])
def test_that_nothing_runs_is_said_without_a_client(tmp_path: Path, command: str, status: int) -> None:
    came, _, packages = loaded(tmp_path, command)
    assert came == status
    assert not packages & (CLIENTS | PLATFORM)


@pytest.mark.parametrize("stores", ["backups", "backups,copies=copies"])
def test_a_list_of_recovery_points_in_folders_needs_no_client(tmp_path: Path, stores: str) -> None:
    status, said, packages = loaded(tmp_path, "backup", "list", BACKUP_STORES=stores)
    assert status == 0
    assert said.startswith("no recovery points in ")
    assert not packages & (CLIENTS | PLATFORM)


def test_nor_does_a_store_that_cannot_be_listed(tmp_path: Path) -> None:
    (tmp_path / "backups").write_text("a file")
    status, said, packages = loaded(tmp_path, "backup", "list", BACKUP_STORES="backups")
    assert status == 1
    assert not said
    assert "qdrant_client" not in packages
    assert not packages & PLATFORM


@pytest.mark.parametrize(("command", "status"), [(("show", "latest"), 1), (("verify",), 1), (("key",), 0)])
def test_what_only_reads_recovery_points_needs_no_vector_store(
    tmp_path: Path, command: tuple[str, ...], status: int
) -> None:
    came, _, packages = loaded(tmp_path, "backup", *command, BACKUP_STORES="backups")
    assert came == status
    assert not packages & {"qdrant_client", "boto3", "botocore", "redis", "httpx", *PLATFORM}


@pytest.mark.parametrize(
    "module",
    ["console.backups", "embedded.attach", "orchestration.backups.expected", "orchestration.backups.restore.kept"],
)
def test_what_the_other_backup_commands_begin_with_loads_no_client_of_the_vector_store(module: str) -> None:
    code = f"import sys, {module}; sys.exit(bool({{'qdrant_client', 'boto3', 'dagster', 'numpy'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, timeout=120, check=False).returncode == 0
