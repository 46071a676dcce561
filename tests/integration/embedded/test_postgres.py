"""The embedded PostgreSQL: starts anywhere, keeps its data whatever happens, lets nobody in without the password."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest

from embedded.services import ports, postgres
from embedded.services.processes import ServiceFailed, last_lines, running
from zhiyun.repository import REPOSITORY


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A ZHIYUN_HOME below a folder that only its owner may pass through, as a checkout below /root is."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    return closed / "home"


def prepare(home: Path, **options: str) -> postgres.Cluster:
    home.mkdir(exist_ok=True)
    return postgres.prepare(home, ports.free_port(), **options)


def value(url: str, query: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query.encode()).fetchone()
        return row[0] if row else None


@pytest.mark.parametrize("prefer", ["", "packaged"])
def test_it_starts_holds_chinese_and_shuts_down_cleanly(home: Path, prefer: str) -> None:
    cluster, log = prepare(home, prefer=prefer), home / "postgres.log"
    with running(cluster.service(), log) as process:
        url = cluster.url("zhiyun")
        assert psutil.Process(process.pid).uids().effective != 0
        assert value(url, "SELECT encoding FROM pg_database WHERE datname = 'zhiyun'") == 6  # UTF8
        assert value(url, "SELECT similarity('发票怎么开', '发票怎么开具')") > 0.3  # type: ignore[operator]
        assert value(url, "SELECT count(*) > 0 FROM pg_stat_statements") is True
        assert value(url, "SELECT NOT rolsuper FROM pg_roles WHERE rolname = 'zhiyun'") is True
        assert value(cluster.url("dagster"), "SELECT current_database()") == "dagster"
    assert "database system is shut down" in last_lines(log, 1)[0]


def test_a_kill_loses_nothing_and_a_stale_lock_blocks_nothing(home: Path) -> None:
    cluster, log = prepare(home), home / "postgres.log"
    with running(cluster.service(), log) as process:
        with psycopg.connect(cluster.url("zhiyun")) as connection:
            connection.execute("CREATE TABLE kept (x int)")
            connection.execute("INSERT INTO kept VALUES (7)")
        process.send_signal(signal.SIGKILL)
        process.wait()
    lock = cluster.data / "postmaster.pid"
    # The number in it is a living process by now, but not a PostgreSQL.
    lock.write_text("\n".join([str(os.getpid()), *lock.read_text().splitlines()[1:]]))
    with running(cluster.service(), log):
        assert value(cluster.url("zhiyun"), "SELECT x FROM kept") == 7


def test_a_server_that_was_left_running_is_stopped_first(home: Path) -> None:
    cluster, log = prepare(home), home / "postgres.log"
    with running(cluster.service(), log) as left_over, running(cluster.service(), log):
        assert left_over.wait() == 0
        assert value(cluster.url("zhiyun"), "SELECT 1") == 1


def test_nobody_gets_in_without_the_password(home: Path) -> None:
    cluster = prepare(home)
    with running(cluster.service(durable=False), home / "postgres.log"):
        for role in ("zhiyun", "postgres"):
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(f"postgresql://{role}@127.0.0.1:{cluster.port}/zhiyun")
    assert stat.S_IMODE((home / "passwords.json").stat().st_mode) == 0o600


def test_a_lost_password_file_is_one_sentence(home: Path) -> None:
    cluster = prepare(home)
    (home / "passwords.json").unlink()
    with (
        pytest.raises(ServiceFailed, match=r"passwords\.json.*Nothing was changed"),
        running(cluster.service(durable=False), home / "postgres.log"),
    ):
        pass


def test_data_of_a_version_that_is_not_installed_is_one_sentence_and_stays(home: Path) -> None:
    cluster = prepare(home)
    (cluster.data / "PG_VERSION").write_text("9\n")
    with pytest.raises(ServiceFailed, match=r"PostgreSQL 9.*ZHIYUN_HOME.*not touched"):
        prepare(home)
    assert (cluster.data / "global").exists()


def test_initdb_that_was_interrupted_is_done_again(home: Path) -> None:
    (home / "postgres" / "data.new").mkdir(parents=True)
    (home / "postgres" / "data.new" / "PG_VERSION").write_text("15\n")
    cluster = prepare(home)
    assert (cluster.data / "postgresql.conf").exists()
    assert not (home / "postgres" / "data.new").exists()


def test_a_long_path_does_without_the_socket(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 25) / "home"
    home.mkdir(parents=True)
    cluster = prepare(home)
    with running(cluster.service(durable=False), home / "postgres.log"):
        assert value(cluster.url("zhiyun"), "SHOW unix_socket_directories") == ""


def test_the_callers_environment_does_not_matter(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, wrong in {"PGPORT": "1", "PGDATA": "/nowhere", "PGHOST": "/nowhere", "LC_ALL": "xx_YY.UTF-8"}.items():
        monkeypatch.setenv(name, wrong)
    cluster = prepare(home)
    with running(cluster.service(durable=False), home / "postgres.log"):
        assert value(cluster.url("zhiyun"), "SELECT 1") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_it_runs_for_a_user_who_is_not_root(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    code = (
        "import sys; from pathlib import Path; from embedded.services import ports, postgres; from embedded.services.processes import running\n"
        "cluster = postgres.prepare(Path(sys.argv[1]), ports.free_port())\n"
        "with running(cluster.service(durable=False), Path(sys.argv[1]) / 'log'): print('ready', end='')\n"
    )
    # The interpreter may lie below /root: this user may pass through, and is nobody otherwise.
    told = subprocess.run(
        as_nobody([sys.executable, "-c", code, str(home)]), capture_output=True, text=True, check=False, cwd=REPOSITORY
    )
    assert told.stdout == "ready", told.stderr


def as_nobody(command: list[str]) -> list[str]:
    only = "-all,+dac_read_search"
    passing = [f"--inh-caps={only}", f"--ambient-caps={only}", f"--bounding-set={only}"]
    return ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *passing, "--", *command]
