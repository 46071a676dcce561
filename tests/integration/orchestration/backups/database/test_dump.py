"""A database's dump is whole or an error; what is restored from it is the same, and takes the live one's place or not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psutil
import psycopg
import pytest

from orchestration.backups.database import archive, roles, siblings, swap, verify
from orchestration.backups.database.dump import Dump, globals_
from orchestration.backups.database.load import restore_into
from orchestration.backups.database.server import on_database, programs_for
from orchestration.backups.recovery_point import BackupError, PointDamaged
from tests.support.backups.databases import Server, dumped, eventually, everything, in_pieces, rows, run, value
from zhiyun.postgresql import OLDEST, ProgramsMissing, client_programs, servers
from zhiyun.repository import REPOSITORY

NOW = datetime(2026, 11, 24, 3, 15, tzinfo=UTC)


@pytest.fixture
def server(postgres_server: Server) -> Iterator[Server]:
    """A server that has afterwards the databases that it had before."""
    before = postgres_server.names()
    yield postgres_server
    postgres_server.drop(postgres_server.names() - before)


def restored(server: Server, admin: str, live: str, data: bytes) -> str:
    """A new database beside the live one, with what is in the archive; gives its name."""
    name = siblings.name_beside(live, "restore", datetime.now(UTC))
    siblings.create(admin, name, live)
    restore_into(on_database(admin, name), in_pieces(data), server.programs)
    return name


@pytest.mark.parametrize("role", ["superuser", "owner"])
def test_what_is_restored_is_the_same_to_the_last_byte(server: Server, role: str) -> None:
    live = server.make()
    admin = server.url(live, role)
    data, database = dumped(admin, server.programs)
    archive.check(in_pieces(data), server.programs)
    name = siblings.name_beside(live, "restore", NOW)
    siblings.create(admin, name, live)
    result = restore_into(on_database(admin, name), in_pieces(data), server.programs)
    assert everything(server.admin(name)) == everything(server.admin(live))
    assert verify.verify(on_database(admin, name), database) == []
    assert (result.left_out, result.extensions_left_out) == ((), ())
    assert value(server.admin(name), "SELECT count(*) > 0 FROM pg_stats WHERE tablename = 'orders'") is True
    assert value(server.admin(), f"SELECT count(*) FROM (SELECT DISTINCT datdba, encoding, datlocprovider, datcollate, datctype "
                 f"FROM pg_database WHERE datname IN ('{live}', '{name}')) x") == 1  # fmt: skip


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
        assert eventually(lambda: psutil.Process(dump.pid).status() == psutil.STATUS_ZOMBIE)
    with Dump(server.admin(live), server.programs) as dump:
        next(dump.chunks())
    assert not psutil.pid_exists(dump.pid)
    assert eventually(lambda: not rows(server.admin(), f"SELECT 1 FROM pg_stat_activity WHERE datname = '{live}'"))


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
    assert eventually(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


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


def test_a_restore_that_fails_half_way_touches_nothing_that_runs(server: Server) -> None:
    live = server.make(bulk=True)
    admin = server.admin(live)
    data, _ = dumped(admin, server.programs)
    before = everything(admin)

    def breaks_off() -> Iterator[bytes]:
        yield data[: len(data) // 2]
        raise PointDamaged("points/x has another hash.")

    for chunks, words in ((in_pieces(data[: len(data) // 2]), "end of file|block"), (breaks_off(), "another hash")):
        name = siblings.name_beside(live, "restore", NOW)
        siblings.create(admin, name, live)
        with pytest.raises(BackupError, match=words):
            restore_into(on_database(admin, name), chunks, server.programs)
        siblings.discard(admin, live, name)
    with pytest.raises(PointDamaged, match="damaged"):
        restore_into(on_database(admin, server.make(filled=False)), in_pieces(data[:1000]), server.programs)
    assert everything(admin) == before


def test_nothing_is_restored_into_a_database_that_has_tables(server: Server) -> None:
    live = server.make()
    data, _ = dumped(server.admin(live), server.programs)
    with pytest.raises(BackupError, match="not empty"):
        restore_into(server.admin(live), in_pieces(data), server.programs)
    with pytest.raises(BackupError, match="already a database"):
        siblings.create(server.admin(live), live, live)
    assert value(server.admin(live), "SELECT count(*) FROM visits") == 50


def test_an_ordinary_role_does_without_extensions_that_it_may_not_make_and_says_so(server: Server) -> None:
    live = server.make()
    data, database = dumped(server.cluster.url(live), server.programs)
    name = f"{live}_bare"
    run(server.admin(), f"CREATE DATABASE {name} OWNER zhiyun TEMPLATE template0")
    result = restore_into(server.cluster.url(name), in_pieces(data), server.programs)
    assert set(result.extensions_left_out) == {"amcheck", "pgstattuple", "pg_stat_statements"}
    assert all("only a superuser" in sentence for sentence in result.left_out)
    assert verify.verify(server.cluster.url(name), database, without=result.extensions_left_out) == []
    assert "Extension amcheck is missing." in verify.verify(server.cluster.url(name), database)


def test_a_privilege_of_a_missing_role_costs_an_ordinary_role_no_data(server: Server) -> None:
    live = server.make()
    run(server.admin(), "CREATE ROLE passing_by")
    run(server.cluster.url(live), "GRANT SELECT ON orders TO passing_by")
    data, database = dumped(server.cluster.url(live), server.programs)
    run(server.admin(live), "REVOKE ALL ON orders FROM passing_by", "DROP ROLE passing_by")
    name = siblings.name_beside(live, "restore", NOW)
    siblings.create(server.cluster.url(live), name, live)
    result = restore_into(server.cluster.url(name), in_pieces(data), server.programs)
    assert result.left_out == ('A privilege was left out: role "passing_by" does not exist.',)
    assert verify.verify(server.cluster.url(name), database) == []


def test_what_differs_from_the_manifest_is_named(server: Server) -> None:
    live = server.make()
    admin = server.admin(live)
    data, database = dumped(admin, server.programs)
    name = restored(server, admin, live, data)
    run(
        server.admin(name),
        "DELETE FROM visits WHERE seconds = 7", "UPDATE customers SET note = '改' WHERE id = 500", "DROP TABLE older CASCADE",
        "DROP EXTENSION pgstattuple", "CREATE TABLE added (x int)",
    )  # fmt: skip
    assert verify.verify(server.admin(name), database) == [
        "Table public.added is not in the recovery point.",
        "Table public.customers has other values in 200 sampled rows.",
        "Table public.newer is missing.",
        "Table public.older is missing.",
        "Table public.visits has 49 rows and should have 50.",
        "Extension pgstattuple is missing.",
    ]


def test_amcheck_finds_a_damaged_page_and_says_when_it_may_not_look(server: Server) -> None:
    live = server.make()
    whole = verify.amcheck(server.admin(live), server.programs)
    assert (whole.problems, whole.left_out) == ((), "")
    assert "may not use" in verify.amcheck(server.cluster.url(live), server.programs).left_out
    file = value(server.admin(live), "SELECT pg_relation_filepath('orders_by_customer')").rpartition("/")[2]
    copy = f"{live}_copy"
    # Copied as files, so that no page of it is in the server's memory.
    run(server.admin(), "CHECKPOINT", f"CREATE DATABASE {copy} TEMPLATE {live} STRATEGY file_copy", "CHECKPOINT")
    oid = value(server.admin(), f"SELECT oid FROM pg_database WHERE datname = '{copy}'")
    path = server.cluster.data / "base" / str(oid) / file
    damaged = bytearray(path.read_bytes())
    damaged[8192 + 8000 : 8192 + 8100] = os.urandom(100)
    path.write_bytes(damaged)
    found = verify.amcheck(server.admin(copy), server.programs)
    assert any("orders_by_customer" in problem or "invalid page" in problem for problem in found.problems)
    run(server.admin(copy), "DROP EXTENSION amcheck")
    assert "does not have the extension" in verify.amcheck(server.admin(copy), server.programs).left_out


@pytest.mark.parametrize("role", ["superuser", "owner"])
def test_a_swap_goes_through_while_clients_reconnect_without_end_and_can_be_undone(server: Server, role: str) -> None:
    live = server.make()
    admin, everyday = server.url(live, role), server.cluster.url(live)
    run(
        server.admin(),
        f"ALTER DATABASE {live} SET work_mem = '5MB'",
        f'GRANT CONNECT ON DATABASE {live} TO "Reader 读者"',
    )
    data, _ = dumped(admin, server.programs)
    new = restored(server, admin, live, data)
    run(server.cluster.url(new), "CREATE TABLE which AS SELECT 'restored' AS name")
    run(server.cluster.url(live), "CREATE TABLE which AS SELECT 'before' AS name")
    stop, seen = threading.Event(), [list[str]() for _ in range(4)]

    def client(mine: list[str]) -> None:
        while not stop.is_set():
            try:
                with psycopg.connect(everyday, connect_timeout=10) as connection:
                    while not stop.is_set():
                        mine += [str(row[0]) for row in connection.execute("SELECT name FROM which")]
                        if len(mine) % 20 == 0:
                            break
            except psycopg.OperationalError:  # thrown out, or told that the database was renamed
                continue

    clients = [threading.Thread(target=client, args=(mine,)) for mine in seen]
    for thread in clients:
        thread.start()
    try:
        assert eventually(lambda: all(seen))
        kept = siblings.name_beside(live, "before", NOW)
        swap.swap(admin, live, new, kept)
        assert eventually(lambda: all(mine[-1] == "restored" for mine in seen))
        assert value(everyday, "SHOW work_mem") == "5MB"
        assert value(server.admin(), f"SELECT has_database_privilege('Reader 读者', '{live}', 'CONNECT')") is True
        assert [(one.name, one.at) for one in siblings.kept(admin, live)] == [(kept, NOW)]
        aside = swap.undo(admin, live, kept)
        assert eventually(lambda: all(mine[-1] == "before" for mine in seen))
        assert [one.name for one in siblings.kept(admin, live)] == [aside]
    finally:
        stop.set()
        for thread in clients:
            thread.join()
    # No client ever went back: each saw the old one, then the restored, then the old one again.
    assert all([name for name, before in zip(mine, ["", *mine], strict=False) if name != before] == ["before", "restored", "before"]
               for mine in seen)  # fmt: skip
    siblings.discard(admin, live, aside)
    assert siblings.kept(admin, live) == []


def test_a_swap_that_fails_leaves_both_names_as_they_were(server: Server) -> None:
    live, new = server.make(), server.make(filled=False)
    kept = siblings.name_beside(live, "before", NOW)
    with pytest.raises(BackupError, match=r"no_such.*could not be put in the place of.*names that they had"):
        swap.swap(server.admin(live), live, "no_such", kept)
    run(server.admin(), f"ALTER DATABASE {new} OWNER TO postgres")
    with pytest.raises(BackupError, match=r"must be owner.*names that they had"):
        swap.swap(server.cluster.url(live), live, new, kept)
    run(server.admin(), f"ALTER DATABASE {new} OWNER TO zhiyun")
    with (
        psycopg.connect(server.admin(live)),
        pytest.raises(BackupError, match=r"sessions of postgres may be ended only by a superuser.*names that they had"),
    ):
        swap.swap(server.cluster.url(live), live, new, kept)
    assert {live, new} <= server.names()
    assert kept not in server.names()
    assert value(server.admin(live), "SELECT count(*) FROM visits") == 50


def test_leftovers_of_killed_restores_are_swept_and_what_is_in_use_stays(server: Server) -> None:
    live = server.make(filled=False)
    old, used = (siblings.name_beside(live, kind, NOW - timedelta(days=30)) for kind in ("drill", "restore"))
    young, kept = siblings.name_beside(live, "drill", datetime.now(UTC)), siblings.name_beside(live, "before", NOW)
    for name in (old, used, young, kept):
        siblings.create(server.cluster.url(live), name, live)
    with psycopg.connect(server.cluster.url(used)):
        assert siblings.sweep_scratch(server.cluster.url(live), live, timedelta(hours=6)) == [old]
    assert {one.name for one in siblings.scratch(server.admin(live), live)} == {young, used}
    with pytest.raises(BackupError, match="not dropped"):
        siblings.discard(server.admin(live), live, "postgres")
    with pytest.raises(BackupError, match="not dropped"):
        siblings.discard(server.admin(live), live, live)
    assert {live, young, used, kept} <= server.names()


def test_names_fit_whatever_the_database_is_called(server: Server) -> None:
    live = "智云" * 10 + "xyz"
    run(server.admin(), f'CREATE DATABASE "{live}" OWNER zhiyun')
    name = siblings.name_beside(live, "restore", NOW)
    siblings.create(server.admin(), name, live)
    assert [one.name for one in siblings.scratch(server.admin(), live)] == [name]
    assert value(on_database(server.admin(), live), "SELECT current_database()") == live


def test_missing_roles_come_back_without_passwords_and_those_that_are_there_stay(server: Server) -> None:
    run(
        server.admin(),
        """CREATE ROLE "It's a ""new"" role" LOGIN PASSWORD 'secret' CONNECTION LIMIT 3 VALID UNTIL '2030-01-01'""",
        """ALTER ROLE "It's a ""new"" role" SET search_path TO "$user", public""",
        """GRANT pg_monitor, "Reader 读者" TO "It's a ""new"" role" WITH ADMIN OPTION""",
    )
    query = (
        "SELECT rolname, rolcanlogin, rolconnlimit, rolvaliduntil, rolconfig, rolsuper, array(SELECT roleid::regrole::text "
        "FROM pg_auth_members WHERE member = r.oid AND admin_option ORDER BY 1) FROM pg_roles r WHERE rolname LIKE 'It%'"
    )
    before = rows(server.admin(), query)
    told = b"".join(globals_(server.admin(), server.programs))
    assert b"SCRAM" not in told
    assert b"PASSWORD" not in told
    assert b"".join(globals_(server.cluster.url("postgres"), server.programs)).count(b"CREATE ROLE") == 4
    run(server.admin(), 'DROP ROLE "It\'s a ""new"" role"', "ALTER ROLE zhiyun CONNECTION LIMIT 77")
    refused = roles.apply_globals(server.cluster.url("postgres"), in_pieces(told))
    assert refused.created == ()
    assert refused.missing[0].startswith('role It\'s a "new" role (permission denied')
    made = roles.apply_globals(server.admin(), in_pieces(told))
    assert made.created == ('It\'s a "new" role',)
    assert set(made.memberships) == {'It\'s a "new" role in pg_monitor', 'It\'s a "new" role in Reader 读者'}
    assert made.missing == ()
    assert rows(server.admin(), query) == before
    assert value(server.admin(), "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'zhiyun'") == 77
    assert roles.apply_globals(server.admin(), in_pieces(told)) == roles.Roles()
    run(server.admin(), 'DROP ROLE "It\'s a ""new"" role"', "ALTER ROLE zhiyun CONNECTION LIMIT -1")


def test_programs_are_of_the_servers_major_or_refused_in_one_line(server: Server) -> None:
    assert programs_for(server.admin(), "").major == server.major
    assert programs_for(server.admin(), str(server.programs.folder)) == server.programs
    other = next((found for found in servers() if found.major != server.major), None)
    if other:
        with pytest.raises(
            BackupError, match=rf"^The server is PostgreSQL {server.major} and DATABASE_PROGRAMS=[^\n]*$"
        ):
            programs_for(server.admin(), str(other.folder))
    with pytest.raises(
        ProgramsMissing, match=r"^The server is PostgreSQL 99 and this machine has .*DATABASE_PROGRAMS[^\n]*$"
    ):
        client_programs(99)
    with pytest.raises(ProgramsMissing, match=r"^DATABASE_PROGRAMS=/nowhere has no pg_dump[^\n]*$"):
        client_programs(OLDEST, "/nowhere")


def test_a_server_that_is_not_there_is_one_line_without_the_password() -> None:
    with pytest.raises(BackupError, match=r"^DATABASE_ADMIN_URL.*database x on 127\.0\.0\.1:1 [^\n]*$") as caught:
        programs_for("postgresql://zhiyun:secret@127.0.0.1:1/x", "")
    assert "secret" not in str(caught.value)
