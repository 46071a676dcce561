"""What is restored from a dump is the same, and a restore that fails touches nothing that runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestration.backups.database import archive, siblings, verify
from orchestration.backups.database.load import restore_into
from orchestration.backups.database.server import on_database
from orchestration.backups.recovery_point import BackupError, PointDamaged
from tests.support.backups.databases import NOW, Server, dumped, everything, in_pieces, run, value


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
