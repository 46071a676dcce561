"""`zhiyun backup`, `restore`, `kept`, `drill`: what they print, what they refuse, and the exit status."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest

from console import cli
from tests.support.backups.platforms import POINT, Made, Platform
from tests.support.stack import Stack

pytest_plugins = ("tests.support.backups.platforms",)


class Said:
    """One command: its exit status, and what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
        capsys.readouterr()
        self.status = cli.main(list(arguments))
        self.out, self.err = capsys.readouterr()
        # Progress has a time before it; what is left is for a person to act on.
        self.told = [line for line in self.err.splitlines() if not re.match(r"\d\d:\d\d:\d\d ", line)]


@pytest.fixture
def nobody_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))


def test_points_are_made_listed_shown_verified_and_expired(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    now = Said(capsys, "backup", "now")
    assert now.status == 0
    point = re.search(r"recovery point (\S+):", now.out)
    assert point
    assert "primary: verified" in now.out
    listed = Said(capsys, "backup", "list")
    assert listed.status == 0
    assert listed.out.count("verified") == 2
    as_json = json.loads(Said(capsys, "backup", "list", "--json").out)
    assert {one["id"]: one["state"] for one in as_json} == {point[1]: "verified", POINT: "verified"}
    shown = Said(capsys, "backup", "show", POINT)
    assert "live release: 1" in shown.out
    assert "3 golden questions" in shown.out
    assert json.loads(Said(capsys, "backup", "show", "latest", "--json").out)["manifest"]
    assert Said(capsys, "backup", "verify").out == f"{point[1]} in primary: verified\n"
    before = sorted(platform.backups.rglob("*"))
    dry = Said(capsys, "backup", "prune", "--dry-run")
    assert dry.status == 0
    assert sorted(platform.backups.rglob("*")) == before
    key = Said(capsys, "backup", "key")
    assert "AGE-SECRET-KEY-1" in key.out
    [recorded] = platform.rows("SELECT count(*) FROM operations.recovery_points")
    assert recorded == (2,)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("backup", "show", "2020-01-01"), "Recovery point 2020-01-01 is not in store 'primary'"),
        (("backup", "show", "last tuesday"), "is no recovery point"),
        (("backup", "verify", "--store", "moon"), "BACKUP_STORES has no store named 'moon'"),
        (("restore", "2020-01-01", "--yes"), "Recovery point 2020-01-01 is not in store 'primary'"),
        (("restore", POINT, "--store", "moon", "--yes"), "BACKUP_STORES has no store named 'moon'"),
        (("restore", POINT, "--into", "no/where"), "--into no/where"),
        (("kept", "back", "nothing"), "There is no kept database 'nothing'"),
        (("kept", "discard", "nothing"), "There is no kept database 'nothing'"),
        (("recover", "--from", "{backups}"), "is for an empty environment"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_status_1(
    platform: Platform, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    before = platform.state()
    said = Said(capsys, *(one.format(backups=platform.backups) for one in arguments))
    assert said.status == 1
    assert len(said.told) == 1
    assert words in said.told[0]
    assert said.out == ""
    assert platform.state() == before


@pytest.mark.slow
def test_a_point_that_is_damaged_has_status_1(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    [file] = platform.backups.glob(f"points/{POINT}/*/postgres-platform.dump.zst")
    file.write_bytes(file.read_bytes()[:-5])
    said = Said(capsys, "backup", "verify", POINT)
    assert said.status == 1
    assert "postgres-platform.dump.zst" in said.out
    before = platform.state()
    assert Said(capsys, "restore", POINT, "--yes").status == 1
    assert Said(capsys, "drill").told[-1].count("no verified recovery point") == 1
    assert platform.state() == before


@pytest.mark.slow
def test_a_restore_asks_and_what_it_kept_is_listed_put_back_and_deleted(
    made: Made, platform: Platform, capsys: pytest.CaptureFixture[str], nobody_types: None
) -> None:
    before = platform.state()
    asked = Said(capsys, "restore", "latest")
    assert asked.status == 1
    assert "in the place of what is live now" in asked.out
    assert asked.told == ["Nothing was changed: say --yes where nobody can be asked."]
    assert platform.state() == before
    assert Said(capsys, "kept", "list").out == "nothing is kept\n"
    done = Said(capsys, "restore", "latest", "--yes", "--only", "database", "--only", "vectors")
    assert done.status == 0
    assert platform.answers() == made.answers
    kept = re.search(r"zhiyun kept back (\S+)`", done.out)
    assert kept
    assert kept[1] in Said(capsys, "kept", "list").out
    back = Said(capsys, "kept", "back", kept[1])
    assert back.status == 0
    assert platform.answers() == made.later
    aside = re.search(r"kept as (\S+)", back.out)
    assert aside
    assert Said(capsys, "kept", "discard", aside[1]).status == 0
    assert platform.state() == before
    drilled = Said(capsys, "drill")
    assert drilled.status == 0
    assert drilled.out.endswith("it restores whole\n")


@pytest.mark.slow
def test_without_a_running_stack_the_stores_are_started_and_stopped_for_a_command(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "home")
    (tmp_path / "docs").mkdir()
    told = stack.run("backup", "now", KNOWLEDGE_SOURCES=f"docs={tmp_path / 'docs'}", KNOWLEDGE_GOLDEN_SET="")
    assert told.returncode == 0, told.stderr
    assert "zhiyun is not running: PostgreSQL and the vector store" in told.stderr
    assert "primary: verified" in told.stdout
    assert "Traceback" not in told.stderr
    assert stack.orphans() == []
    assert not stack.layout.is_running()
    listed = stack.run("backup", "list")
    assert "verified" in listed.stdout
    assert "is not running" not in listed.stderr  # the list needs no stores
    refused = stack.run("kept", "list")
    assert refused.returncode == 0
    assert refused.stdout == "nothing is kept\n"
