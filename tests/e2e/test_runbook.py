"""The runbook's commands, typed as an operator types them: each block, in the page's order, on a running stack.

Both languages hold the same commands (tests/unit/console/test_operations_pages.py), so one is enough.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from embedded.services import ports
from tests.support.runbook_page import PAGES, Commands, commands
from tests.support.stack import Stack, environment
from zhiyun.repository import REPOSITORY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("curl") is None, reason="the page's commands need curl, and this machine has none"),
]


class Site:
    """A machine with a running stack, and one beside it that has nothing but the settings."""

    def __init__(self, folder: Path) -> None:
        self.desk = folder / "desk"  # where commands are typed
        self.desk.mkdir(parents=True)
        programs = folder / "bin"
        programs.mkdir()
        zhiyun = programs / "zhiyun"
        zhiyun.write_text(f'#!/bin/sh\nexec {sys.executable} -m console "$@"\n')
        zhiyun.chmod(0o755)
        documents = folder / "documents"
        shutil.copytree(REPOSITORY / "sample" / "knowledge" / "billing", documents)
        (folder / "new-documents").mkdir()
        store = folder / "backups"
        free = {name: str(ports.free_port()) for name in ("SERVING_PORT", "DAGSTER_PORT", "QDRANT_PORT")}
        self.settings = {
            "KNOWLEDGE_SOURCES": f"handbook={documents}",
            "KNOWLEDGE_GOLDEN_SET": str(REPOSITORY / "sample" / "golden.jsonl"),
            "BACKUP_STORES": str(store),
            **free,
        }
        shell = {
            "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(REPOSITORY),
            "STORE": str(store),
            "LANG": "C.UTF-8",
        }
        self.stack = Stack(folder / "home")
        self.here = environment(self.stack.home, **self.settings, **shell)
        self.new_machine = environment(
            folder / "new-home",
            **{**self.settings, "KNOWLEDGE_SOURCES": f"handbook={folder / 'new-documents'}"},
            **shell,
        )

    def types(self, block: Commands) -> subprocess.CompletedProcess[str]:
        """Have bash run a block of the page."""
        return subprocess.run(
            ["bash", "-e"],
            input=block.text,
            env=self.new_machine if block.on == "new-machine" else self.here,
            cwd=self.desk,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    one = Site(tmp_path_factory.mktemp("runbook"))
    try:
        one.stack.up(**one.settings)
        chat = one.stack.layout.state()["urls"]["chat"]
        httpx.post(f"{chat}/api/chat", json={"message": "发票怎么开？"}, timeout=60).raise_for_status()
        yield one
    finally:
        one.stack.run("down", **one.settings)


def test_every_command_of_the_runbook_does_what_the_page_says(site: Site) -> None:
    said: dict[str, str] = {}
    for block in commands(PAGES["en"].read_text()):
        began = time.monotonic()
        done = site.types(block)
        print(f"{PAGES['en'].name}:{block.line} took {time.monotonic() - began:.1f} s")
        where = f"{PAGES['en'].name}:{block.line}\n{block.text}\n{done.stdout}{done.stderr}"
        assert done.returncode in block.statuses, where
        said[block.text] = done.stdout

    def after(text: str) -> str:
        [found] = [words for command, words in said.items() if text in command]
        return found

    assert '"status":"healthy"' in after("/api/health")
    assert "zhiyun_operations_up 1.0" in after("/api/metrics/operations")
    assert "verified" in after("zhiyun backup list")
    assert "zhiyun_before_" in after("zhiyun restore latest")
    assert '"result":true' in after("snapshots/recover").replace(" ", "")
    assert "deleted: zhiyun_before_" in after("zhiyun kept discard")
    assert "processes.not_running" in after("zhiyun doctor processes")
    assert "NOT HEALTHY" not in after("nohup zhiyun up").splitlines()[-1]
    assert "zhiyun-chat" in after("pg_stat_activity")
    assert "it restores whole" in after("zhiyun drill")
    assert "Everything is restored and verified." in after("zhiyun recover")
    assert "Execution Time" in after("EXPLAIN ANALYZE")
    assert site.stack.status()["healthy"]
