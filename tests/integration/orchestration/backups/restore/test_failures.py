"""A restore that cannot be done leaves everything as it was, says why in one sentence, and the next one clears up."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import redis

from knowledge.database import connect, writer
from orchestration.backups.expected import EXPECTED
from orchestration.backups.making.verify import PARTS
from orchestration.backups.recovery_point import BackupError, PointDamaged
from orchestration.backups.restore import in_place
from orchestration.backups.restore import kept as keeping
from orchestration.exclusion import exclusive
from tests.support.backups.platforms import POINT, Made, Platform, contents, rows
from zhiyun.fence import KEY
from zhiyun.repository import REPOSITORY
from zhiyun.settings import DatabaseSettings

pytestmark = pytest.mark.slow

pytest_plugins = ("tests.support.backups.platforms",)


def refused(platform: Platform, parts: tuple[str, ...] = PARTS, **options: Any) -> str:
    """The one sentence or two that a restore ends with."""
    with pytest.raises(EXPECTED) as error:
        in_place.restore(platform.inst, platform.inst.primary, POINT, parts, **options)
    said = str(error.value)
    assert "\n" not in said
    assert len(said) < 600
    return said


def flip(platform: Platform, name: str) -> None:
    """One byte in the middle of an object of the point."""
    [file] = platform.backups.glob(f"points/{POINT}/*/{name}")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def crash(platform: Platform) -> None:
    """PostgreSQL loses a process, throws out everybody, and recovers."""
    with psycopg.connect(platform.admin()) as connection:
        os.kill(connection.info.backend_pid, signal.SIGKILL)
        for _ in range(200):
            try:
                rows(platform.admin(), "SELECT 1")
                return
            except psycopg.OperationalError:
                time.sleep(0.1)


@pytest.mark.parametrize(
    ("step", "name"),
    [
        ("check", "postgres-platform.dump.zst"),
        ("check", "files.jsonl.zst"),
        ("platform database", "postgres-platform.dump.zst"),
        ("vectors", "qdrant-*.snapshot"),
    ],
)
def test_damage_before_and_after_the_check(platform: Platform, step: str, name: str) -> None:
    before = platform.state()
    platform.steps.at[step] = lambda: flip(platform, name)
    assert "points/" in refused(platform) or step != "check"
    assert platform.state() == before


def test_a_database_that_is_not_what_the_point_says(platform: Platform) -> None:
    before = platform.state()

    def tamper() -> None:
        [new] = [name for name in platform.databases() if "_restore_" in name]
        with psycopg.connect(platform.admin(new), autocommit=True) as connection:
            connection.execute("DELETE FROM chat.messages WHERE content = '谢谢'")

    platform.steps.at["platform database compared"] = tamper
    assert "chat.messages has 1 rows and should have 2" in refused(platform)
    assert platform.state() == before


@pytest.mark.parametrize("step", ["vectors", "swap"])
def test_a_vector_store_that_is_killed(made: Made, platform: Platform, step: str) -> None:
    before = platform.state()
    platform.steps.at[step] = platform.server.process.kill
    assert "QDRANT_URL" in refused(platform)
    assert contents(platform.admin(platform.database)) == before["rows"]
    assert platform.databases() == before["databases"]
    platform.restart_vector_store()
    after = platform.state()
    left = after["collections"] - before["collections"]
    assert {**after, "collections": before["collections"]} == before
    assert all(re.search("_r[0-9a-f]{6}$", name) for name in left)
    report = in_place.restore(platform.inst, platform.inst.primary, POINT)
    assert platform.collections() == before["collections"] | set(report.collections.values())
    assert platform.answers() == made.answers


@pytest.mark.parametrize("step", ["platform database compared", "swap"])
def test_a_postgresql_that_crashes_and_comes_back(made: Made, platform: Platform, step: str) -> None:
    before = platform.state()
    platform.steps.at[step] = lambda: crash(platform)
    refused(platform)  # at the latest because its locks are gone: another restore or an ingestion may have begun
    assert platform.state() == before
    report = in_place.restore(platform.inst, platform.inst.primary, POINT)
    assert platform.answers() == made.answers
    kept = {one.name for one in keeping.databases(platform.inst)}
    assert platform.databases() == before["databases"] | kept
    assert report.kept in kept


def test_a_role_that_may_not_create_databases(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    with psycopg.connect(platform.admin(), autocommit=True) as connection:
        connection.execute("CREATE ROLE weak LOGIN PASSWORD 'weak' IN ROLE zhiyun")
        try:
            before = platform.state()
            parts = urlsplit(platform.database_url)
            weak = urlunsplit(parts._replace(netloc=f"weak:weak@127.0.0.1:{parts.port}"))
            monkeypatch.setenv("DATABASE_ADMIN_URL", weak)
            said = refused(platform)
            assert "CREATEDB" in said
            assert "weak:weak" not in said
            assert platform.state() == before
        finally:
            connection.execute("DROP OWNED BY weak")
            connection.execute("DROP ROLE weak")


def test_a_client_whose_session_may_not_be_ended(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    before = platform.state()
    monkeypatch.setenv("DATABASE_ADMIN_URL", platform.database_url)  # an ordinary role
    with psycopg.connect(platform.admin(platform.database)):
        assert "sessions of postgres may be ended only by a superuser" in refused(platform)
        assert platform.state() == before


def test_a_vector_store_without_room(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    before = platform.state()

    def fill() -> None:
        platform.server.process.kill()
        platform.restart_vector_store("--reserve-mib", str(2**40))

    platform.steps.at["vectors"] = fill
    assert "make room on its disk" in refused(platform)
    assert platform.state() == before


def test_files_without_room_are_told_and_the_rest_is_in_force(
    made: Made, platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = platform.state()
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], check=False, capture_output=True).returncode:  # fmt: skip
        pytest.skip("no file system can be mounted here")
    try:
        (small / "filler").write_bytes(b"x" * 50_000)
        monkeypatch.setenv("KNOWLEDGE_SOURCES", f"docs={small}")
        said = refused(platform, ("files",))
        assert str(small) in said
        report = in_place.restore(platform.inst, platform.inst.primary, POINT)
        assert platform.answers() == made.answers
        [problem] = report.problems
        assert "--only files" in problem
        assert platform.files() == before["files"]
        assert not list(small.rglob(".zhiyun-restoring-*"))
    finally:
        subprocess.run(["umount", small], check=True)


def test_an_ingestion_or_a_backup_that_is_at_work_is_named(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_place, "WAIT", 1.0)
    before = platform.state()
    with connect(DatabaseSettings(), "zhiyun ingestion") as connection, writer(connection):
        assert "zhiyun ingestion" in refused(platform)
    with exclusive(platform.admin(), "backup of 2026-11-25"):
        assert "zhiyun backup of 2026-11-25, since" in refused(platform)
    assert platform.state() == before


def killed(platform: Platform, at: str, after: float = 0.0, **more: str) -> None:
    """`zhiyun restore` as a process of its own, killed at a step."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "console", "restore", POINT, "--yes"],
        cwd=REPOSITORY,
        env={**os.environ, **more},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr
    lines: list[str] = []
    for line in process.stderr:
        lines.append(line)
        if line.rstrip().endswith(f" {at}"):
            break
    else:
        raise AssertionError("".join(lines))
    time.sleep(after)
    process.kill()
    process.wait()
    process.stderr.close()


def test_killed_at_any_step_everything_is_as_before_and_the_next_one_sweeps(
    made: Made, platform: Platform, redis_url: str
) -> None:
    before = platform.state()
    own = urlunsplit(urlsplit(redis_url)._replace(path="/8"))
    for at, after in (("vectors and record", 0.0), ("swap", 0.6)):
        killed(platform, at, after, REDIS_URL=own)
        state = platform.state()
        assert state["databases"] > before["databases"], at
        assert {**state, "databases": None, "collections": None} == {**before, "databases": None, "collections": None}
    left = redis.Redis.from_url(own).pttl(KEY)
    assert 0 < left <= 15_000  # milliseconds until customers are let in by themselves
    redis.Redis.from_url(own).delete(KEY)
    assert platform.collections() > before["collections"]
    report = in_place.restore(platform.inst, platform.inst.primary, POINT)
    assert platform.answers() == made.answers
    assert platform.databases() == before["databases"] | {report.kept}
    assert platform.collections() == before["collections"] | set(report.collections.values())


def test_what_is_somebody_else_s_is_not_swept(made: Made, platform: Platform) -> None:
    """Names that look like a restore's, and are not: of another installation, or known to a record that is kept."""
    first = in_place.restore(platform.inst, platform.inst.primary, POINT)
    keeping.back(platform.inst, first.kept)  # the record that knows the restored collection is kept
    others = {f"{platform.alias}_shop_r0123ab", "shop_0123456789ab_r0123ab", "zhiyun_drill_20261124T031500Z"}
    others |= {"zhiyun_drill_20261124t031500z_ffffff_shop"}
    for name in others:
        platform.client.create_collection(name, vectors_config={})
    stale = f"{platform.alias}_0123456789ab_r0123ab"
    platform.client.create_collection(stale, vectors_config={})
    in_place.restore(platform.inst, platform.inst.primary, POINT, ["files"])
    assert others <= platform.collections()
    assert set(first.collections.values()) <= platform.collections()
    assert stale not in platform.collections()


def test_unknown_and_damaged_points_are_told_apart(platform: Platform) -> None:
    before = platform.state()
    with pytest.raises(BackupError, match="is not in store"):
        in_place.restore(platform.inst, platform.inst.primary, "2020-01-01")
    [manifest] = platform.backups.glob(f"points/{POINT}/manifest.json")
    manifest.write_bytes(manifest.read_bytes().replace(b"platform", b"platfirm", 1))
    with pytest.raises(PointDamaged, match=r"manifest\.json"):
        in_place.restore(platform.inst, platform.inst.primary, POINT)
    assert platform.state() == before
