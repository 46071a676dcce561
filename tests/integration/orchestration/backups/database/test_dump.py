"""A database's dump is whole or an error, and its manifest says what is in it and no more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import psycopg
import pytest

from orchestration.backups.database import archive
from orchestration.backups.database.dump import Dump
from orchestration.backups.recovery_point import BackupError, PointDamaged
from tests.support.backups.databases import Server, dumped, in_pieces, restored, rows, run, value
from tests.support.waiting import until
from zhiyun.repository import REPOSITORY


def test_a_manifest_says_what_was_in_the_snapshot_and_no_more(server: Server) -> None:
    live = server.make()
    url = server.admin(live)
    with Dump(url, server.programs) as dump:
        run(url, "INSERT INTO visits VALUES ('later', 1)", "DELETE FROM orders", "CREATE TABLE later (x int)")
        data = b"".join(dump.chunks())
        contents = dump.contents()
    counts = {table.name: table.rows for table in contents.tables}
    assert counts == {
        "public.customers": 500, "public.orders": 3000, "public.visits": 50, "public.models": 5, '客服.对话 "一" 号': 300,
        "public.older": 10, "public.newer": 5, "public.by_month_1": 20, "pg_catalog.pg_largeobject_metadata": 1,
    }  # fmt: skip
    sampled = {table.name: table.sampled for table in contents.tables if table.sample}
    assert sampled["public.orders"] == 200
    assert sampled["public.models"] == 5
    assert "public.visits" not in sampled  # it has no key to order by
    name = restored(server, url, live, data)
    assert value(server.admin(name), "SELECT count(*) FROM orders") == 3000


def test_what_the_platform_keeps_is_named(server: Server) -> None:
    live = server.make(filled=False)
    url = server.cluster.url(live)
    environment = {**os.environ, "DATABASE_URL": url}
    subprocess.run([sys.executable, "-m", "migrations", "upgrade"], cwd=REPOSITORY, env=environment, check=True)
    run(
        url,
        "INSERT INTO knowledge.models (fingerprint, embedder, rules, config) VALUES ('f', 'e', 'r', '{}')",
        "INSERT INTO knowledge.releases (number, status, fingerprint, collection, fusion_weight) VALUES (7, 'live', 'f', 'c', 1)",
    )
    _, database = dumped(url, server.programs)
    assert (database.name, database.live_release, database.migration[:2]) == (live, 7, "00")
    assert database.server_version.startswith(f"{server.major}.")
    assert database.programs_version.startswith(f"{server.major}.")
    assert "pg_trgm" in database.extensions


@pytest.mark.parametrize("kill", ["pg_dump", "session"])
def test_a_dump_that_is_killed_in_mid_stream_is_an_error_where_the_stream_ends(server: Server, kill: str) -> None:
    live = server.make(bulk=True)
    session = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{live}' AND application_name = 'pg_dump'"
    with Dump(server.admin(live), server.programs) as dump:
        chunks = dump.chunks()
        got = len(next(chunks))
        if kill == "pg_dump":
            os.kill(dump.pid, signal.SIGKILL)
        else:
            run(server.admin(), session)
        with pytest.raises(BackupError, match=r"broke off: .*only read") as caught:
            sum(map(len, chunks))
    assert 0 < got < 20_000_000
    assert ("SIGKILL" if kill == "pg_dump" else "terminat") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_who_stops_reading_ends_the_dump(server: Server) -> None:
    live = server.make(bulk=True)
    with Dump(server.admin(live), server.programs) as dump:
        chunks = dump.chunks()
        next(chunks)
        chunks.close()
        until(lambda: psutil.Process(dump.pid).status() == psutil.STATUS_ZOMBIE)
    with Dump(server.admin(live), server.programs) as dump:
        next(dump.chunks())
    assert not psutil.pid_exists(dump.pid)
    until(lambda: not rows(server.admin(), f"SELECT 1 FROM pg_stat_activity WHERE datname = '{live}'"))


def test_a_dump_does_not_outlive_the_process_that_reads_it(server: Server) -> None:
    live = server.make(bulk=True)
    code = (
        "import sys, time; from orchestration.backups.database.dump import Dump; from zhiyun.postgresql import client_programs\n"
        f"with Dump(sys.argv[1], client_programs({server.major})) as dump:\n"
        "    next(dump.chunks()); print(dump.pid, flush=True); time.sleep(60)\n"
    )
    reader = subprocess.Popen([sys.executable, "-c", code, server.admin(live)], stdout=subprocess.PIPE, cwd=REPOSITORY)
    assert reader.stdout is not None
    pid = int(reader.stdout.readline())
    reader.kill()
    reader.wait()
    reader.stdout.close()
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_a_locked_table_is_waited_for_so_long_and_no_longer(server: Server) -> None:
    live = server.make()
    with psycopg.connect(server.admin(live)) as holder:
        holder.execute("LOCK TABLE visits")
        with (
            pytest.raises(BackupError, match=r"a table was locked for more than 0\.2 s.*only read"),
            Dump(server.admin(live), server.programs, lock_wait=0.2) as dump,
        ):
            list(dump.chunks())


def test_the_callers_environment_and_process_list_do_not_matter(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = server.make(bulk=True)
    for name, wrong in {"PGPORT": "1", "PGHOST": "/nowhere", "PGOPTIONS": "-c wrong=1", "LC_ALL": "xx_YY"}.items():
        monkeypatch.setenv(name, wrong)
    monkeypatch.delenv("PGOPTIONS")
    url = server.admin(live)
    password = psycopg.conninfo.conninfo_to_dict(url)["password"]
    with Dump(url, server.programs) as dump:
        assert str(password) not in " ".join(psutil.Process(dump.pid).cmdline())
        assert sum(map(len, dump.chunks())) > 1_000_000


def test_every_way_of_cutting_an_archive_short_is_found(server: Server) -> None:
    data, _ = dumped(server.admin(server.make()), server.programs)
    cuts = {
        0,
        1,
        4,
        5,
        100,
        len(data) // 3,
        len(data) // 2,
        *(len(data) - short for short in (1, 2, 3, 4, 5, 6, 50, 3000)),
    }
    for cut in sorted(cuts):
        with pytest.raises(PointDamaged, match=r"^The dump is damaged: .* Nothing was changed\.$"):
            archive.check(in_pieces(data[:cut]), server.programs)
    with pytest.raises(PointDamaged):
        archive.check(in_pieces(os.urandom(3_000_000)), server.programs)
