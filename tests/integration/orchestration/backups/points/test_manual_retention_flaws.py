"""What the operators' manual deletes that it should not, shown with its own lines, and that we do not.

Its script: `pg_dump … | gzip > $BACKUP_DIR/…`, then `find $BACKUP_DIR -mtime +30 -delete` (flaws 1, 2, 3 and 9 of the
list in the design of backups). Everything happens in a scratch folder.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from objects.folder import FolderObjects
from orchestration.backups.points.catalogue import find, points, write_failure
from orchestration.backups.points.retention import Policy, prune
from orchestration.backups.recovery_point import BackupError
from orchestration.backups.streams.blobs import write_blob
from tests.support.backups.recovery_points import add_point, assert_whole
from zhiyun.settings import S3Settings, SettingsError

DAY = timedelta(days=1)
_SCRIPT = """
pg_dump zhiyun | gzip > $BACKUP_DIR/zhiyun_$NIGHT.sql.gz
find $BACKUP_DIR -name "*.sql.gz" -mtime +30 -delete
"""

pytestmark = pytest.mark.skipif(not shutil.which("find"), reason="the manual's script needs find")


def the_manuals_script(
    cwd: Path, pg_dump: str, night: str, backup_dir: Path | None
) -> subprocess.CompletedProcess[str]:
    """Run the manual's lines with a pg_dump of our own."""
    programs = cwd / "programs"
    programs.mkdir(exist_ok=True)
    (programs / "pg_dump").write_text(f"#!/bin/sh\n{pg_dump}\n")
    (programs / "pg_dump").chmod(0o755)
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "NIGHT": night}
    if backup_dir:
        environment["BACKUP_DIR"] = str(backup_dir)
    return subprocess.run(["sh", "-c", _SCRIPT], cwd=cwd, env=environment, capture_output=True, text=True)


def aged(path: Path, age: timedelta) -> None:
    at = (datetime.now(UTC) - age).timestamp()
    os.utime(path, (at, at))


def test_flaw_2_after_31_failing_nights_the_manual_has_deleted_the_last_good_copy(tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    folder.mkdir()
    the_manuals_script(tmp_path, "echo 'CREATE TABLE t ();'", "good", folder)
    good = folder / "zhiyun_good.sql.gz"
    assert gzip.decompress(good.read_bytes()) == b"CREATE TABLE t ();\n"
    aged(good, 32 * DAY)
    for night in range(31, 0, -1):
        done = the_manuals_script(tmp_path, "echo 'no connection' >&2; exit 1", f"{night:02}", folder)
        assert done.returncode == 0  # and nobody is told
        aged(folder / f"zhiyun_{night:02}.sql.gz", (night - 1) * DAY)
    assert not good.exists()
    left = sorted(folder.iterdir())
    assert len(left) == 31
    assert all(gzip.decompress(path.read_bytes()) == b"" for path in left)


def test_flaw_2_ours_keeps_every_good_point_and_says_why(tmp_path: Path) -> None:
    store = FolderObjects("primary", tmp_path / "backup")
    now = datetime.now(UTC)
    for age in (32, 40, 75):
        made_at = now - age * DAY
        add_point(store, made_at.strftime("%Y-%m-%d"), "verified", made_at, {"a.md": b"a"})
    for age in range(31, 0, -1):
        night = now - age * DAY
        write_failure(store, night.strftime("%Y-%m-%d"), "no connection", night)
        report = prune(store, Policy(), night)
        assert not report.expired
        assert "no connection" in (report.frozen or "")
    for path in (tmp_path / "backup").rglob("*"):
        if path.is_file():
            aged(path, 75 * DAY)  # how old files are decides nothing
    prune(store, Policy(), now)
    there = [point.id for point in assert_whole(store) if point.state == "verified"]
    assert there == [(now - age * DAY).strftime("%Y-%m-%d") for age in (32, 40, 75)]


def test_flaw_3_with_backup_dir_unset_the_manual_deletes_below_the_current_folder(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    (scratch / "elsewhere").mkdir(parents=True)
    other = scratch / "elsewhere" / "somebody-elses.sql.gz"
    other.write_bytes(b"not a backup of ours")
    aged(other, 60 * DAY)
    # $BACKUP_DIR/… is then below /; the dump is left out, so that the test never writes there.
    subprocess.run(
        ["sh", "-c", _SCRIPT.strip().splitlines()[1]],
        cwd=scratch,
        env={"PATH": os.environ["PATH"]},
        check=True,
        capture_output=True,
    )
    assert not other.exists()


def test_flaw_3_ours_never_looks_outside_its_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from objects.places import open_store, parse_places

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    other = scratch / "somebody-elses.sql.gz"
    other.write_bytes(b"not a backup of ours")
    aged(other, 60 * DAY)
    monkeypatch.chdir(scratch)
    # Unset is the documented default and never the current folder; half-set is refused.
    [place] = parse_places("", "BACKUP_STORES", str(scratch / "home" / "backups"))
    (scratch / "home").mkdir()
    store = open_store(place, S3Settings(), "BACKUP_STORES")
    with pytest.raises(SettingsError, match="BACKUP_STORES"):
        parse_places("a=,", "BACKUP_STORES", "x")
    now = datetime.now(UTC)
    for age in (90, 80, 2, 1, 0):
        add_point(store, (now - age * DAY).strftime("%Y-%m-%d"), "verified", now - age * DAY)
    mine = scratch / "home" / "backups" / "notes" / "of-the-operator.txt"
    mine.parent.mkdir()
    mine.write_text("kept")
    aged(mine, 90 * DAY)
    assert len(prune(store, Policy(), now).expired) == 2
    assert other.exists()
    assert mine.exists()


def test_flaw_9_a_partial_file_stands_under_the_manuals_final_name(tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    folder.mkdir()
    done = the_manuals_script(tmp_path, "echo 'CREATE TABLE t ();'; kill -9 $$", "last", folder)
    assert done.returncode == 0
    assert gzip.decompress((folder / "zhiyun_last.sql.gz").read_bytes()) == b"CREATE TABLE t ();\n"


def test_flaw_9_a_dump_that_breaks_off_is_no_object_and_no_point_of_ours(tmp_path: Path) -> None:
    store = FolderObjects("primary", tmp_path / "backup")
    add_point(store, "2026-11-24")
    before = {item.key for item in store.list()}

    def breaks_off() -> Iterator[bytes]:
        yield b"CREATE TABLE t ();\n"
        raise BackupError("pg_dump was killed by signal 9; no recovery point was made.")

    with pytest.raises(BackupError, match="killed by signal 9"):
        write_blob(store, "points/2026-11-25/a1/postgres-zhiyun.dump.zst", breaks_off())
    assert {item.key for item in store.list()} == before
    # What was written of a point that never got its manifest is not a point.
    write_blob(store, "points/2026-11-25/a1/globals.sql.zst", [b"CREATE ROLE r;"])
    assert [point.id for point in points(store)] == ["2026-11-24"]
    assert find(store, "latest").id == "2026-11-24"
