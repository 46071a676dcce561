"""The server's roles come back without their passwords, and only programs that suit the server are used."""

from __future__ import annotations

import pytest

from orchestration.backups.database import roles
from orchestration.backups.database.dump import globals_
from orchestration.backups.database.server import programs_for
from orchestration.backups.recovery_point import BackupError
from tests.support.backups.databases import Server, in_pieces, rows, run, value
from zhiyun.postgresql import OLDEST, ProgramsMissing, client_programs, servers


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
