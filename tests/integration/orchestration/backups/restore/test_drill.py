"""A trial restore: the newest verified point comes back whole beside everything, is compared, timed, and goes again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import dagster as dg
import psycopg
import pytest

from orchestration.backups.assets import restore_drill
from orchestration.backups.making import steps
from orchestration.backups.recovery_point import BackupError
from orchestration.backups.restore import drill
from tests.support.backups.platforms import POINT, Made, Platform, rows
from zhiyun.repository import REPOSITORY

pytestmark = pytest.mark.slow

pytest_plugins = ("tests.support.backups.platforms",)


def scratch(platform: Platform) -> list[str]:
    """Whatever a trial could have left."""
    found = [name for name in platform.databases() if "_drill_" in name or "_restore_" in name]
    found += [name for name in platform.collections() if "drill" in name]
    return found + [str(path) for path in (platform.root / "home").glob("zhiyun_drill_*")]


def test_the_point_restores_whole_is_timed_and_leaves_nothing(made: Made, platform: Platform) -> None:
    before = platform.state()
    there: list[str] = []
    platform.steps.at["golden questions"] = lambda: there.extend(scratch(platform))
    found = drill.drill(platform.inst)
    assert found.problems == []
    assert found.point == POINT
    assert len(there) == 2  # a database and a collection
    assert found.rows == sum(len(its) for its in made.rows.values())
    assert (found.points, found.files) == (22, 22)
    assert found.golden is not None
    assert (found.golden.questions, found.golden.same_first) == (3, 3)
    assert found.rpo_seconds > 0
    assert {"check", "platform database", "platform database compared", "vectors", "golden questions", "files"} <= (
        found.timing.seconds.keys()
    )
    assert sum(found.timing.seconds.values()) <= found.rto_seconds
    print(f"drill of 22 documents: {found.rto_seconds} s, {found.timing.seconds}")
    assert platform.state() == before
    assert scratch(platform) == []


def damage(platform: Platform, name: str) -> None:
    [file] = platform.backups.glob(name)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("step", "name"),
    [
        ("check", f"points/{POINT}/*/postgres-platform.dump.zst"),
        ("platform database", f"points/{POINT}/*/postgres-platform.dump.zst"),
        ("vectors", f"points/{POINT}/*/qdrant-*.snapshot"),
        ("golden questions", f"points/{POINT}/*/golden.jsonl.zst"),
    ],
)
def test_a_point_that_is_damaged_is_a_problem_and_not_an_exception(platform: Platform, step: str, name: str) -> None:
    before = platform.state()
    platform.steps.at[step] = lambda: damage(platform, name)
    found = drill.drill(platform.inst)
    assert found.problems
    assert all("\n" not in problem for problem in found.problems)
    assert platform.state() == before
    assert scratch(platform) == []


def test_values_and_answers_that_differ_are_found(platform: Platform) -> None:
    def tamper() -> None:
        [name] = [name for name in platform.databases() if "_drill_" in name]
        with psycopg.connect(platform.admin(name), autocommit=True) as connection:
            connection.execute("UPDATE chat.messages SET content = content || '？'")

    platform.steps.at["platform database compared"] = tamper
    [problem] = drill.drill(platform.inst).problems
    assert "chat.messages has other values" in problem

    def empty() -> None:
        [name] = [name for name in platform.collections() if "drill" in name]
        points, _ = platform.client.scroll(name, limit=100)
        refunds = [p.id for p in points if (p.payload or {})["uri"] in ("docs/refunds.md", "docs/plans.md")]
        platform.client.delete(name, refunds)

    platform.steps.at["golden questions"] = empty
    [problem] = drill.drill(platform.inst).problems
    assert "2 of 3 golden questions are answered otherwise" in problem
    assert scratch(platform) == []


def test_a_vector_store_that_goes_away_is_a_problem_and_the_next_trial_sweeps(platform: Platform) -> None:
    platform.steps.at["golden questions"] = platform.server.process.kill
    found = drill.drill(platform.inst)
    assert any("QDRANT_URL" in problem for problem in found.problems)
    assert not [name for name in platform.databases() if "_drill_" in name]
    platform.restart_vector_store()
    assert len(scratch(platform)) == 1  # the collection
    assert drill.drill(platform.inst).problems == []
    assert scratch(platform) == []


def test_a_trial_that_was_killed_is_swept_by_the_next(platform: Platform) -> None:
    before = platform.state()
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "console", "drill"],
        cwd=REPOSITORY, env=dict(os.environ), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stderr
    for line in process.stderr:
        if line.rstrip().endswith(" files"):
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    assert len(scratch(platform)) >= 3
    # Another backup, made before the next trial, does not take it for the platform's.
    point = steps.make(platform.inst, "2026-11-25T031500Z", "hand").manifest
    assert [one.name for one in point.vectors.collections] == [before["live"][0]]
    assert drill.drill(platform.inst).problems == []
    assert scratch(platform) == []
    assert platform.state() == before


def test_without_a_verified_point_there_is_nothing_to_try(platform: Platform) -> None:
    for file in platform.backups.glob("points/*/verification.json"):
        file.unlink()
    with pytest.raises(BackupError, match="no verified recovery point"):
        drill.drill(platform.inst)


def test_in_dagster_its_checks_tell_what_was_found(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> tuple[dict[str, bool], dict[str, object]]:
        result = dg.materialize([restore_drill], instance=dg.DagsterInstance.ephemeral(), raise_on_error=False)
        [event] = result.asset_materializations_for_node("restore_drill")
        checks = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
        return checks, {key: value.value for key, value in event.metadata.items()}

    monkeypatch.setenv("BACKUP_RPO_HOURS", "1")
    checks, metadata = run()
    assert checks == {"restores_whole": True, "rto": True, "rpo": True}
    assert metadata["point"] == POINT
    assert metadata["golden_same"] == metadata["golden_questions"] == 3
    assert metadata["rto_seconds"]
    monkeypatch.setenv("BACKUP_RPO_HOURS", "0.000001")
    monkeypatch.setenv("BACKUP_RTO_MINUTES", "0.0001")
    damage(platform, f"points/{POINT}/*/qdrant-*.snapshot")
    checks, metadata = run()
    assert checks == {"restores_whole": False, "rto": False, "rpo": False}
    assert "does not have the hash that the manifest states" in str(metadata["problems"])
    recorded = rows(platform.database_url, "SELECT point, passed FROM operations.restore_drills ORDER BY id")
    assert recorded == [(POINT, True), (POINT, False)]
