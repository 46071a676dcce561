"""Doctor and PostgreSQL: each fault of the manual's section "database connection fails", and what makes it slow, for real."""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from embedded.services import postgres
from embedded.services.ports import free_port
from embedded.services.processes import running
from tests.support.chat_service import at_port
from tests.support.diagnosed import DEAD, found, told
from tests.support.faults.tcp_switch import switch
from tests.support.waiting import until_blocked, until_true


def database(url: str, **more: str) -> dict[str, str]:
    """What doctor says of PostgreSQL at this URL, in words for the assertion's message."""
    findings = found("database", **{**DEAD, "DATABASE_URL": url, **more})
    return {code: finding.says("en") for code, finding in findings.items()}


def changed(url: str, **parts: str) -> str:
    """The URL with another user, password, host or database."""
    whole = urlsplit(url)
    user, password = parts.get("user", whole.username), parts.get("password", whole.password)
    place = f"{user}:{password}@{parts.get('host', whole.hostname)}:{whole.port}"
    return urlunsplit(whole._replace(netloc=place, path=f"/{parts['database']}" if "database" in parts else whole.path))


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@contextmanager
def meanwhile(url: str, statement: str, name: str = "somebody") -> Iterator[None]:
    """Somebody else executes this while the block runs."""
    with psycopg.connect(url, autocommit=True, application_name=name) as connection:
        thread = threading.Thread(target=_quietly, args=(connection, statement))
        thread.start()
        try:
            yield
        finally:
            connection.cancel_safe()
            thread.join()


def _quietly(connection: psycopg.Connection, statement: str) -> None:
    with suppress(psycopg.Error):
        connection.execute(statement.encode())


def test_a_healthy_database_is_well(migrated_database_url: str, postgres_cluster: postgres.Cluster) -> None:
    name = migrated_database_url.rpartition("/")[2]
    findings = found(
        "database",
        **{**DEAD, "DATABASE_URL": migrated_database_url, "DATABASE_ADMIN_URL": postgres_cluster.url(name, "postgres")},
    )
    assert told(findings) == {}
    assert "schema 000" in findings["database.well"].says("en")


def test_a_server_that_is_stopped(migrated_database_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    said = database(at_port(migrated_database_url, port))
    assert f"nothing listens on 127.0.0.1:{port}" in said["network.refused"]
    assert "DATABASE_URL" in said["network.refused"]


def test_a_host_that_has_no_address(migrated_database_url: str) -> None:
    said = database(changed(migrated_database_url, host="no-such-host.invalid"))
    assert "no-such-host.invalid of PostgreSQL has no address" in said["network.no_such_host"]


@pytest.fixture
def full_backlog() -> Iterator[int]:
    """A port whose server takes no connection any more, as behind a firewall that drops."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        yield port
        for one in waiting:
            one.close()


def test_a_firewall_that_drops(migrated_database_url: str, full_backlog: int) -> None:
    said = database(at_port(migrated_database_url, full_backlog))
    assert "gives no answer within 5 s" in said["network.no_answer"]


def test_a_wrong_password(migrated_database_url: str) -> None:
    said = database(changed(migrated_database_url, password="secret-9"))
    assert "refuses role zhiyun: the password is wrong" in said["database.password"]


def test_a_role_that_is_not_there(migrated_database_url: str) -> None:
    said = database(changed(migrated_database_url, user="nobody_at_all"))
    assert {"database.no_such_role", "database.password"} & said.keys(), (
        said
    )  # with a password asked for, the server hides it


def test_a_database_that_is_not_there(migrated_database_url: str) -> None:
    said = database(changed(migrated_database_url, database="gone"))
    assert "has no database gone" in said["database.no_such_database"]


def test_a_server_without_tls(migrated_database_url: str) -> None:
    said = database(f"{migrated_database_url}?sslmode=require")
    assert "SSL" in said["database.not_connected"]


def test_another_program_on_its_port(migrated_database_url: str, qdrant_url: str) -> None:
    said = database(at_port(migrated_database_url, urlsplit(qdrant_url).port or 0))
    assert "no session begins" in said["database.not_connected"]


@pytest.mark.parametrize("of", ["DATABASE", "ROLE"])
def test_all_connections_of_a_role_or_a_database_taken(
    migrated_database_url: str, postgres_cluster: postgres.Cluster, of: str
) -> None:
    name = migrated_database_url.rpartition("/")[2]
    root = postgres_cluster.url(name, "postgres")
    limited = {"DATABASE": name, "ROLE": f"of_{name}"}[of]
    execute(root, f"CREATE ROLE of_{name} LOGIN PASSWORD 'secret-5'", f"ALTER {of} {limited} CONNECTION LIMIT 3")
    url = changed(migrated_database_url, user=f"of_{name}", password="secret-5")
    held = [psycopg.connect(url, application_name="greedy") for _ in range(3)]
    try:
        finding = found("database", **{**DEAD, "DATABASE_URL": url, "DATABASE_ADMIN_URL": root})[
            "database.connection_limit"
        ]
    finally:
        for one in held:
            one.close()
    assert "greedy" in finding.says("en")
    assert f'ALTER {of} "{limited}" CONNECTION LIMIT -1;' in finding.mend("en")
    execute(root, f"DROP ROLE of_{name}")


def test_all_connections_of_the_server_taken(tmp_path: Path) -> None:
    cluster = postgres.prepare(tmp_path, free_port())
    with (cluster.data / "postgresql.conf").open("a") as settings:
        settings.write("max_connections = 9\nmax_wal_senders = 0\n")
    with running(cluster.service(durable=False), tmp_path / "log"), ExitStack() as held:
        for _ in range(6):
            held.enter_context(psycopg.connect(cluster.url("zhiyun"), application_name="greedy"))
        said = database(cluster.url("zhiyun"), DATABASE_ADMIN_URL=cluster.url("zhiyun", "postgres"))
    assert "has no connection left" in said["database.connections_used_up"]
    assert "greedy" in said["database.connections_used_up"]


def test_one_of_several_hosts_is_down(migrated_database_url: str) -> None:
    whole = urlsplit(migrated_database_url)
    place = f"{whole.username}:{whole.password}@127.0.0.1:1,127.0.0.1:{whole.port}"
    said = database(urlunsplit(whole._replace(netloc=place)))
    assert "one does not answer: 127.0.0.1:1" in said["database.host_down"]
    assert "database.well" in said


def test_a_socket_that_nobody_listens_on(tmp_path: Path) -> None:
    said = database(f"postgresql://zhiyun@/zhiyun?host={tmp_path}&port=5499")
    assert "nothing listens on" in said["network.refused"]
    assert ".s.PGSQL.5499" in said["network.refused"]


@pytest.mark.parametrize("url", ["postgresql://u:secret-6%et@h/d", "postgresql://u:secret-6/x@h/d"])
def test_a_password_that_a_url_cannot_have_is_told_without_the_password(url: str) -> None:
    assert "DATABASE_URL cannot be read as a URL" in database(url)["network.bad_url"]


def test_a_role_without_rights_still_hears_what_it_may(
    migrated_database_url: str, postgres_cluster: postgres.Cluster
) -> None:
    name = migrated_database_url.rpartition("/")[2]
    root = postgres_cluster.url(name, "postgres")
    execute(root, f"CREATE ROLE weak_{name} LOGIN PASSWORD 'secret-7'")
    said = database(changed(migrated_database_url, user=f"weak_{name}", password="secret-7"))
    assert "does not tell all: permission denied" in said["database.query_refused"]
    assert not any(code.startswith("doctor.") for code in said)
    execute(root, f"DROP ROLE weak_{name}")


def test_tables_that_a_migration_has_locked(migrated_database_url: str) -> None:
    with psycopg.connect(migrated_database_url, application_name="migration") as holder:
        holder.execute("LOCK TABLE schema_version IN ACCESS EXCLUSIVE MODE")
        said = database(migrated_database_url)
    assert "lock timeout" in said["database.query_refused"]


def test_most_connections_taken_and_a_pool_that_is_larger_than_the_server(migrated_database_url: str) -> None:
    said = database(migrated_database_url, CAPACITY_CONNECTIONS_PERCENT="0.4", DATABASE_POOL_MAX="300")
    assert "connections are in use" in said["database.connections"]
    assert "may open 300 connections" in said["database.pool_too_large"]


def test_a_database_that_takes_no_writes(migrated_database_url: str, postgres_cluster: postgres.Cluster) -> None:
    name = migrated_database_url.rpartition("/")[2]
    execute(postgres_cluster.url(name, "postgres"), f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    said = database(migrated_database_url)
    assert "takes no writes" in said["database.read_only"]


def test_a_session_without_room_for_temporary_tables(
    migrated_database_url: str, postgres_cluster: postgres.Cluster
) -> None:
    name = migrated_database_url.rpartition("/")[2]
    execute(postgres_cluster.url(name, "postgres"), f"REVOKE TEMPORARY ON DATABASE {name} FROM public")
    execute(postgres_cluster.url(name, "postgres"), f"ALTER DATABASE {name} OWNER TO postgres")
    assert "cannot write" in database(migrated_database_url)["database.cannot_write"]


def test_no_tables_old_tables_and_tables_of_a_later_version(database_url: str) -> None:
    from migrations.__main__ import upgrade

    assert "none of the platform's tables" in database(database_url)["database.schema_missing"]
    _, newest = upgrade(database_url)
    execute(database_url, "UPDATE schema_version SET version_num = '0001'")
    assert f"has schema 0001; this version needs {newest}" in database(database_url)["database.schema_old"]
    execute(database_url, "UPDATE schema_version SET version_num = '9999'")
    assert "a later version has used it" in database(database_url)["database.schema_unknown"]


def test_client_programs_of_another_version(
    migrated_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    said = database(migrated_database_url, DATABASE_PROGRAMS=str(tmp_path_factory.mktemp("empty")))
    assert "DATABASE_PROGRAMS" in said["database.programs"]


def test_a_slow_network(migrated_database_url: str) -> None:
    parts = urlsplit(migrated_database_url)
    with switch(parts.hostname or "", parts.port or 0) as wire:
        wire.delay = 0.03
        said = database(at_port(migrated_database_url, wire.port))
    assert "A round trip to PostgreSQL" in said["database.slow_round_trip"]


def test_a_statement_that_runs_long(migrated_database_url: str) -> None:
    with meanwhile(migrated_database_url, "SELECT pg_sleep(60), 'a secret-value'", "report of the month"):
        until_true(
            migrated_database_url,
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(60)%' AND state = 'active' "
            "AND query_start < clock_timestamp() - interval '5.5 s'",
        )
        said = database(migrated_database_url)
    assert "A statement of report of the month runs for" in said["database.long_statement"]
    assert "secret-value" not in said["database.long_statement"]


def test_statements_that_are_slow_each_time(migrated_database_url: str, postgres_cluster: postgres.Cluster) -> None:
    name = migrated_database_url.rpartition("/")[2]
    root = postgres_cluster.url(name, "postgres")
    execute(root, "CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
    mark = f"slow_{uuid.uuid4().hex[:6]}"
    with psycopg.connect(migrated_database_url, autocommit=True) as connection:
        for _ in range(5):
            connection.execute(sql.SQL("SELECT pg_sleep(0.12) AS {}").format(sql.Identifier(mark)))
    said = database(migrated_database_url, DATABASE_ADMIN_URL=root, MAINTENANCE_SLOW_QUERY_MS="100")
    assert "ms on average (5 calls)" in said["database.slow_statement"]
    assert mark in said["database.slow_statement"]


def test_who_waits_for_whom(migrated_database_url: str, postgres_cluster: postgres.Cluster) -> None:
    name = migrated_database_url.rpartition("/")[2]
    root = postgres_cluster.url(name, "postgres")
    limits = {"MAINTENANCE_BLOCKED_SECONDS": "0.5", "MAINTENANCE_IDLE_TRANSACTION_MINUTES": "600"}
    with psycopg.connect(migrated_database_url, application_name="forgotten") as holder:
        holder.execute("LOCK TABLE chat.conversations")
        with meanwhile(migrated_database_url, "SELECT count(*) FROM chat.conversations", "waiting"):
            until_blocked(root, 0.5)
            findings = found(
                "database", **{**DEAD, "DATABASE_URL": migrated_database_url, "DATABASE_ADMIN_URL": root, **limits}
            )
    blocked = findings["database.health"]
    assert "waiting" in blocked.says("en")
    assert "forgotten" in blocked.says("en")
    assert "pg_cancel_backend" in blocked.mend("en")
    assert "被阻塞的语句" in blocked.says("zh")


def test_a_transaction_that_does_nothing(migrated_database_url: str, postgres_cluster: postgres.Cluster) -> None:
    name = migrated_database_url.rpartition("/")[2]
    root = postgres_cluster.url(name, "postgres")
    with psycopg.connect(migrated_database_url, application_name="forgotten") as holder:
        holder.execute("SELECT 1")
        time.sleep(0.5)  # longer than the 0.005 minutes below: time is what is waited for
        findings = found(
            "database",
            **{
                **DEAD,
                "DATABASE_URL": migrated_database_url,
                "DATABASE_ADMIN_URL": root,
                "MAINTENANCE_IDLE_TRANSACTION_MINUTES": "0.005",
            },
        )
    assert "forgotten" in findings["database.health"].says("en")
    assert "空闲事务" in findings["database.health"].says("zh")
