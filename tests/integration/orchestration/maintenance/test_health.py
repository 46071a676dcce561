"""database_health finds what is seeded, and nothing on a healthy database."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest

from orchestration.maintenance.health import DatabaseHealth, Finding, database_health
from orchestration.maintenance.session import one
from tests.integration.orchestration.maintenance.conftest import Site
from tests.support.waiting import until_blocked
from zhiyun.settings import MaintenanceSettings


def work(site: Site, settings: MaintenanceSettings, **changed: float) -> DatabaseHealth:
    with site.session() as connection:
        return database_health(connection, settings.model_copy(update=changed))


def of(found: DatabaseHealth, what: str, site: Site | None = None) -> list[Finding]:
    return [f for f in found.findings if f.what == what and (site is None or site.name in f"{f.where} {f.detail}")]


def test_a_healthy_database_gives_no_alarm(every_site: Site, settings: MaintenanceSettings) -> None:
    found = work(every_site, settings)
    assert found.findings == ()
    assert found.notes == ()
    assert found.worst() is None
    assert found.figures["connections"] >= 1
    assert 0 < found.figures["connections_share"] < 0.5
    assert ("zhiyun maintenance", "postgres" if every_site.superuser else "keeper") in [
        c[:2] for c in found.connections
    ]


def test_wraparound_by_lowered_limits(site: Site, settings: MaintenanceSettings) -> None:
    site.execute("CREATE TABLE oldest (x int)", *["SELECT pg_current_xact_id()"] * 40)
    found = of(work(site, settings, wraparound_warn=20), "wraparound", site)
    assert "VACUUM (FREEZE)" in found[0].mend
    assert of(work(site, settings, wraparound_warn=1), "wraparound", site)[0].level == "error"


def test_multixacts_are_watched_as_well(site: Site, settings: MaintenanceSettings) -> None:
    site.execute("CREATE TABLE t (x int)", "INSERT INTO t VALUES (1)")
    for _ in range(8):  # two sessions that lock one row together make one multixact
        with site.another() as first, site.another() as second, first.transaction(), second.transaction():
            first.execute("SELECT * FROM t FOR SHARE")
            second.execute("SELECT * FROM t FOR SHARE")
    found = of(work(site, settings, wraparound_warn=5), "wraparound", site)
    assert any("multixact" in finding.detail for finding in found)


def test_an_idle_transaction(every_site: Site, settings: MaintenanceSettings) -> None:
    with every_site.another() as other, other.transaction():
        pid = one(other, "SELECT pg_backend_pid()")
        time.sleep(0.7)  # longer than the 0.01 minutes below: time is what is waited for
        [found] = [
            f
            for f in of(work(every_site, settings, idle_transaction_minutes=0.01), "idle transaction")
            if str(pid) in f.where
        ]
        assert found.level == "warning"
        assert "another" in found.where
        assert f"pg_terminate_backend({pid})" in found.mend
        assert work(every_site, settings).findings == ()


def test_a_blocked_statement_with_who_blocks_it(every_site: Site, settings: MaintenanceSettings) -> None:
    every_site.execute("CREATE TABLE t (x int)")

    def wait() -> None:
        with every_site.another() as blocked:
            blocked.execute("SELECT * FROM t")

    with every_site.another() as blocker:
        pid = one(blocker, "SELECT pg_backend_pid()")
        with blocker.transaction():
            blocker.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
            thread = threading.Thread(target=wait)
            thread.start()
            until_blocked(every_site.root_url, 0.3)
            found = [
                f
                for f in of(work(every_site, settings, blocked_seconds=0.3), "blocked statement")
                if " at t " in f.detail
            ]
        thread.join()
    [finding] = found
    assert f"behind process {pid} (another, idle in transaction" in finding.detail
    assert finding.mend == f"SELECT pg_cancel_backend({pid});"


@pytest.mark.parametrize(
    ("statements", "level", "mend"),
    [
        (("CREATE SEQUENCE s MAXVALUE 100", "SELECT setval('s', 85)"), "warning", "ALTER SEQUENCE public.s"),
        (("CREATE SEQUENCE s MAXVALUE 100", "SELECT setval('s', 99)"), "error", "ALTER SEQUENCE public.s"),
        (("CREATE SEQUENCE s INCREMENT -1 MINVALUE -100 MAXVALUE -1", "SELECT setval('s', -90)"), "warning", "ALTER"),
        (
            ("CREATE TABLE t (id int, x int)", "CREATE SEQUENCE s OWNED BY t.id", "SELECT setval('s', 2000000000)"),
            "warning", "ALTER TABLE public.t ALTER COLUMN id TYPE bigint",
        ),
        (("CREATE SEQUENCE s MAXVALUE 100 CYCLE", "SELECT setval('s', 99)"), None, ""),
        (("CREATE SEQUENCE s MAXVALUE 100", "SELECT setval('s', 50)"), None, ""),
        (("CREATE SEQUENCE s START 1000000",), None, ""),
    ],
)  # fmt: skip
def test_a_sequence_near_its_end(
    site: Site, settings: MaintenanceSettings, statements: tuple[str, ...], level: str | None, mend: str
) -> None:
    site.execute(*statements)
    found = of(work(site, settings), "sequence")
    assert [f.level for f in found] == ([level] if level else [])
    if level:
        assert found[0].where == "public.s"
        assert found[0].mend.startswith(mend)


def test_connections_that_are_nearly_used_up(site: Site, settings: MaintenanceSettings) -> None:
    [found] = of(work(site, settings, connections_share=0.001), "connections")
    assert "max_connections" in found.mend


def test_a_replication_slot_that_nobody_reads(site: Site, settings: MaintenanceSettings) -> None:
    with site.another(root=True) as root:
        name = f"slot_{site.name[-8:]}"
        root.execute("SELECT pg_create_physical_replication_slot(%s, true)", (name,))
        try:
            site.execute("CREATE TABLE t AS SELECT md5(i::text) FROM generate_series(1, 5000) i")
            [found] = [f for f in of(work(site, settings, slot_mb=0.01), "replication slot") if f.where == name]
            assert "nobody reads it" in found.detail
        finally:
            root.execute("SELECT pg_drop_replication_slot(%s)", (name,))


def test_a_role_that_sees_nothing_of_others_is_told_so(site: Site, settings: MaintenanceSettings) -> None:
    with site.another(root=True) as root:
        root.execute("CREATE ROLE blind LOGIN PASSWORD 'blind'")
        url = f"postgresql://blind:blind@127.0.0.1:{site.cluster.port}/{site.name}"
        try:
            with psycopg.connect(url, autocommit=True) as connection:
                found = database_health(connection, settings)
            assert any("GRANT pg_monitor TO blind" in note for note in found.notes)
        finally:
            root.execute("DROP ROLE blind")
