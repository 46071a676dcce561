"""Disaster recovery: everything from a store into an empty environment, verified before anybody is told to use it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import msgspec
import psycopg
import pytest

from console import cli
from orchestration.backups.making import golden, steps
from orchestration.backups.making.verify import verify
from orchestration.backups.points import catalogue
from orchestration.backups.recovery_point import BackupError, Manifest, manifest_key, verification_key
from orchestration.backups.restore import recover
from orchestration.backups.restore.recovery_report import CHECKLIST
from orchestration.backups.streams.blobs import write_blob
from tests.support.backups.platforms import ALIAS, POINT, Made, Platform, contents, rows
from zhiyun.repository import REPOSITORY

pytest_plugins = ("tests.support.backups.platforms",)


def is_empty(platform: Platform) -> bool:
    return (
        not platform.collections()
        and not platform.aliases()
        and not any("_restore_" in name or "_before_" in name for name in platform.databases())
        and not rows(platform.admin(platform.database), "SELECT FROM pg_tables WHERE schemaname = 'knowledge'")
    )


def rewrite(platform: Platform, change: dict[str, object]) -> None:
    """The point with another manifest, as if it had been made so; verified."""
    store = platform.inst.primary
    manifest = catalogue.find(store, POINT).manifest
    assert manifest
    store.delete([manifest_key(POINT), verification_key(POINT)])
    catalogue.write_manifest(store, msgspec.structs.replace(manifest, **change))
    assert verify(platform.inst, store, POINT).result == "verified"


def manifest(platform: Platform) -> Manifest:
    found = catalogue.find(platform.inst.primary, POINT).manifest
    assert found
    return found


def test_everything_comes_back_and_the_report_says_how_long_each_step_took(
    made: Made, empty: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BACKUP_BEFORE_RECOVER", f"touch {tmp_path}/before")
    monkeypatch.setenv("BACKUP_AFTER_RECOVER", f"cp {tmp_path}/before {tmp_path}/after")
    report = recover.recover(empty.inst, "latest")
    assert report.problems == []
    assert report.lines()[-1] == CHECKLIST
    assert (tmp_path / "after").exists()
    assert contents(empty.admin(empty.database)) == made.rows
    assert rows(empty.admin(f"{empty.database}_dagster"), "SELECT count(*) FROM runs") == [(5,)]
    assert empty.answers() == made.answers
    assert empty.live_passages() == made.passages
    assert len(empty.files()) == 22
    assert report.golden == golden.Compared(3, 3, 3, ())
    assert not any("_restore_" in name or "_before_" in name for name in empty.databases())
    written = json.loads(Path(report.written).read_text())
    assert {
        "check",
        "roles",
        "platform database",
        "dagster database",
        "vectors",
        "files",
        "golden questions",
        "swap",
    } <= (written["seconds"].keys())
    # And now it is not empty any more.
    with pytest.raises(BackupError, match="is for an empty environment"):
        recover.recover(empty.inst, "latest")
    assert empty.answers() == made.answers


@pytest.mark.slow
def test_an_environment_that_is_not_empty_is_refused(platform: Platform) -> None:
    before = platform.state()
    with pytest.raises(BackupError, match=r"has \d+ tables; use `zhiyun restore`"):
        recover.recover(platform.inst, "latest")
    assert platform.state() == before


@pytest.mark.slow
def test_a_vector_store_that_is_not_empty_is_refused(empty: Platform) -> None:
    empty.client.create_collection("somebody_s", vectors_config={})
    with pytest.raises(BackupError, match=r"has the collection somebody_s.*Nothing was changed"):
        recover.recover(empty.inst, "latest")
    assert empty.collections() == {"somebody_s"}


@pytest.mark.slow
def test_a_hook_before_that_fails_ends_it_and_one_after_is_told(
    empty: Platform, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BACKUP_BEFORE_RECOVER", "exit 7")
    with pytest.raises(BackupError, match="BACKUP_BEFORE_RECOVER ended with status 7; nothing was touched"):
        recover.recover(empty.inst, "latest")
    assert is_empty(empty)
    assert not empty.files()
    monkeypatch.setenv("BACKUP_BEFORE_RECOVER", "")
    monkeypatch.setenv("BACKUP_AFTER_RECOVER", "exit 8")
    assert cli.main(["recover", "--from", str(empty.backups)]) == 1
    said = capsys.readouterr().out
    assert "BACKUP_AFTER_RECOVER ended with status 8" in said
    assert "Everything is restored and verified." in said
    assert "NOT VERIFIED" not in said


@pytest.mark.slow
def test_snapshots_that_do_not_fit_are_written_from_the_database_instead(made: Made, empty: Platform) -> None:
    rewrite(empty, {"vectors": msgspec.structs.replace(manifest(empty).vectors, engine="qdrant", version="1.9.0")})
    report = recover.recover(empty.inst, "latest")
    assert any("They were written from the database" in note for note in report.notes)
    assert report.problems == []
    assert empty.answers() == made.answers


@pytest.mark.slow
def test_roles_that_are_missing_are_made_and_named(platform: Platform) -> None:
    role = f"auditor_{uuid.uuid4().hex[:6]}"
    with psycopg.connect(platform.admin(platform.database), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'a-secret'".encode())
        connection.execute(f"GRANT USAGE ON SCHEMA chat TO {role}".encode())
        point = steps.make(platform.inst, "2026-11-25T031500Z", "hand").manifest
        connection.execute(f"DROP OWNED BY {role}".encode())
        connection.execute(f"DROP ROLE {role}".encode())
    for database in (platform.database, f"{platform.database}_dagster"):
        with psycopg.connect(platform.admin(), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {database} WITH (FORCE)".encode())
    for name in platform.collections():
        platform.client.delete_collection(name)
    shutil.rmtree(platform.folder)
    try:
        report = recover.recover(platform.inst, point.id)
        assert any(f"The role {role} was created, without a password" in note for note in report.notes)
        granted = f"SELECT has_schema_privilege('{role}', 'chat', 'USAGE')"
        assert rows(platform.admin(platform.database), granted) == [(True,)]
        assert platform.live()[1] == 2
    finally:
        with psycopg.connect(platform.admin(platform.database), autocommit=True) as connection:
            connection.execute(f"DROP OWNED BY {role}".encode())
            connection.execute(f"DROP ROLE {role}".encode())


@pytest.mark.slow
def test_other_answers_than_before_are_not_verified(
    empty: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = empty.inst.primary
    part = manifest(empty).golden
    assert part
    answers = golden.stored(store, manifest(empty), empty.inst)
    changed = [golden.Answer(one.question, ("docs/other.md#0-9 0123456789abcdef",)) for one in answers]
    lines = [msgspec.json.encode(answer) + b"\n" for answer in changed]
    blob = write_blob(store, part.answers.key, lines)
    rewrite(empty, {"golden": msgspec.structs.replace(part, answers=blob)})
    monkeypatch.setenv("BACKUP_AFTER_RECOVER", f"touch {tmp_path}/after")
    assert cli.main(["recover", "--from", str(empty.backups)]) == 1
    said = capsys.readouterr().out
    assert "NOT VERIFIED; do not move customers here:" in said
    assert "3 of 3 golden questions are answered otherwise" in said
    assert "Then move customers" not in said
    assert not (tmp_path / "after").exists()


@pytest.mark.slow
def test_dagster_s_database_on_another_server_is_left_to_be_restored_there(
    made: Made, empty: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_DATABASE_URL", "postgresql://zhiyun@127.0.0.1:1/dagster")
    report = recover.recover(empty.inst, "latest")
    assert any("DAGSTER_DATABASE_URL is on another server" in note for note in report.notes)
    assert report.problems == []
    assert empty.databases() == {empty.database}
    assert empty.answers() == made.answers


@pytest.mark.parametrize("step", ["dagster database", "vectors", "golden questions"])
@pytest.mark.slow
def test_a_step_that_fails_leaves_it_empty(made: Made, empty: Platform, step: str) -> None:
    def break_off() -> None:
        raise BackupError("broken off.")

    empty.steps.at[step] = break_off
    with pytest.raises(BackupError, match="broken off"):
        recover.recover(empty.inst, "latest")
    assert is_empty(empty)


@pytest.mark.slow
def test_killed_in_the_middle_it_can_be_done_again(made: Made, empty: Platform) -> None:
    for at in ("golden questions", "swap"):
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "console", "recover", "--from", str(empty.backups)],
            cwd=REPOSITORY, env=dict(os.environ), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert process.stderr
        for line in process.stderr:
            if line.rstrip().endswith(f" {at}"):
                break
        process.kill()
        process.wait()
        process.stderr.close()
        assert any("_restore_" in name for name in empty.databases())
        assert {name for name in empty.collections() if name.startswith(ALIAS)}
    report = recover.recover(empty.inst, "latest")
    assert report.problems == []
    assert contents(empty.admin(empty.database)) == made.rows
    assert empty.answers() == made.answers
    assert not any("_restore_" in name or "_before_" in name for name in empty.databases())
