"""A restored database takes the live one's place at once or not at all, and what is left over is swept."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from orchestration.backups.database import siblings, swap
from orchestration.backups.database.server import on_database
from orchestration.backups.recovery_point import BackupError
from tests.support.backups.databases import NOW, Server, dumped, restored, run, value
from tests.support.waiting import until


@pytest.mark.parametrize("role", ["superuser", "owner"])
@pytest.mark.slow
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
        until(lambda: all(seen))
        kept = siblings.name_beside(live, "before", NOW)
        swap.swap(admin, live, new, kept)
        until(lambda: all(mine[-1] == "restored" for mine in seen))
        assert value(everyday, "SHOW work_mem") == "5MB"
        assert value(server.admin(), f"SELECT has_database_privilege('Reader 读者', '{live}', 'CONNECT')") is True
        assert [(one.name, one.at) for one in siblings.kept(admin, live)] == [(kept, NOW)]
        aside = swap.undo(admin, live, kept)
        until(lambda: all(mine[-1] == "before" for mine in seen))
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


@pytest.mark.slow
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
