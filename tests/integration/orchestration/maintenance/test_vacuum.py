"""vacuum_analyze does what is needed, says why, blocks nobody, and can be stopped anywhere."""

from __future__ import annotations

import time

import pytest

from orchestration.maintenance import session as sessions
from orchestration.maintenance.session import Stopped, one
from orchestration.maintenance.vacuum import Vacuumed, vacuum_analyze
from tests.integration.orchestration.maintenance.conftest import Site
from zhiyun.settings import MaintenanceSettings

FILL = "INSERT INTO t SELECT i, 'v' FROM generate_series(1, 5000) i"


@pytest.fixture
def table(site: Site) -> Site:
    return with_table(site)


def with_table(site: Site) -> Site:
    """A healthy table of 5,000 rows, which autovacuum leaves alone."""
    site.execute("CREATE TABLE t (x int, y text) WITH (autovacuum_enabled = off)", FILL, "VACUUM ANALYZE t")
    return site


def work(site: Site, settings: MaintenanceSettings, **options: object) -> Vacuumed:
    with site.session() as connection:
        return vacuum_analyze(connection, settings, **options)  # type: ignore[arg-type]


def of(found: Vacuumed, table: str = "public.t"):
    return next((t for t in found.treatments if t.table == table), None)


def test_a_healthy_table_is_left_alone(table: Site, settings: MaintenanceSettings) -> None:
    found = work(table, settings)
    assert of(found) is None
    assert found.looked_at > 10


def test_a_second_run_finds_nothing_to_do(every_site: Site, settings: MaintenanceSettings) -> None:
    table = with_table(every_site)
    table.execute("UPDATE t SET y = 'w'")
    assert of(work(table, settings)).outcome == "done"  # type: ignore[union-attr]
    assert [t for t in work(table, settings).treatments if not t.table.startswith("pg_catalog.")] == []


def test_dead_rows_are_removed_and_the_figures_say_so(table: Site, settings: MaintenanceSettings) -> None:
    table.execute("DELETE FROM t WHERE x % 2 = 0")
    treated = of(work(table, settings))
    assert treated is not None
    assert treated.outcome == "done"
    assert treated.before.dead == 2500
    assert treated.after is not None
    assert treated.after.dead == 0
    assert treated.statement == "VACUUM (ANALYZE)"
    assert "2,500 dead rows" in treated.reasons[0]


def test_inserts_alone_are_a_reason(table: Site, settings: MaintenanceSettings) -> None:
    table.execute(FILL)
    treated = of(work(table, settings))
    assert treated is not None
    assert any("rows inserted since" in reason for reason in treated.reasons)


def test_changes_that_leave_few_dead_rows_renew_statistics_only(table: Site, settings: MaintenanceSettings) -> None:
    table.execute("INSERT INTO t SELECT i, 'v' FROM generate_series(1, 400) i")
    treated = of(work(table, settings))
    assert treated is not None
    assert treated.statement == "ANALYZE"
    assert treated.after is not None
    assert treated.after.modified == 0


def test_statistics_that_were_never_collected_are(site: Site, settings: MaintenanceSettings) -> None:
    site.execute("CREATE TABLE t (x int) WITH (autovacuum_enabled = off)", "INSERT INTO t VALUES (1)")
    site.execute("CREATE TABLE empty (x int) WITH (autovacuum_enabled = off)")
    found = work(site, settings)
    assert of(found).reasons == ("statistics were never collected",)  # type: ignore[union-attr]
    assert of(found, "public.empty") is None


def test_old_rows_are_frozen_before_postgresql_has_to(table: Site, settings: MaintenanceSettings) -> None:
    table.execute("UPDATE t SET y = y WHERE x = 1", *["SELECT pg_current_xact_id()"] * 30)
    found = work(table, settings.model_copy(update={"freeze_share": 10 / 200_000_000}))
    treated = of(found)
    assert treated is not None
    assert treated.statement.startswith("VACUUM (FREEZE")
    assert treated.after is not None
    assert treated.before.age > 30
    assert treated.after.age < 10


def test_a_table_that_is_locked_is_skipped_and_said(table: Site, settings: MaintenanceSettings) -> None:
    table.execute("DELETE FROM t WHERE x % 2 = 0")
    with table.another() as other, other.transaction():
        other.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        treated = of(work(table, settings))
    assert treated is not None
    assert treated.outcome == "skipped"
    assert treated.note == "it is locked by another session"


def test_rows_that_an_old_transaction_sees_stay_and_it_is_named(table: Site, settings: MaintenanceSettings) -> None:
    with table.another() as other, other.transaction():
        other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT count(*) FROM t")
        table.execute("DELETE FROM t WHERE x % 2 = 0")
        time.sleep(1.1)  # a transaction is old from a second on: its age is what is waited for
        treated = of(work(table, settings))
    assert treated is not None
    assert "2,500 dead rows stay: process" in treated.note
    assert "(another," in treated.note


def test_stopping_between_tables_leaves_the_rest_for_the_next_night(table: Site, settings: MaintenanceSettings) -> None:
    table.execute("DELETE FROM t WHERE x % 2 = 0")
    found = work(table, settings, stop=lambda: True)
    assert found.stopped
    assert {t.outcome for t in found.treatments} == {"left"}
    assert of(work(table, settings)).outcome == "done"  # type: ignore[union-attr]


def test_stopping_in_the_middle_of_a_vacuum_harms_nothing(table: Site, settings: MaintenanceSettings) -> None:
    table.execute("DELETE FROM t WHERE x % 2 = 0")
    started = time.monotonic()
    with table.another() as other, other.transaction():
        other.execute("LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE")
        with table.session(lock_timeout=60) as connection:  # it stands still at the lock until it is stopped
            found = vacuum_analyze(connection, settings, stop=lambda: time.monotonic() - started > 1)
            assert one(connection, "SELECT count(*) FROM t") == 2500
    assert of(found).outcome == "left"  # type: ignore[union-attr]
    assert of(work(table, settings)).outcome == "done"  # type: ignore[union-attr]


def test_a_statement_ends_when_its_time_is_over(site: Site) -> None:
    from psycopg import sql

    with site.session() as connection:
        with pytest.raises(Stopped, match="its time was over"):
            sessions.run(connection, sql.SQL("SELECT pg_sleep(60)"), seconds=0.2)
        assert one(connection, "SHOW statement_timeout") == "0"


def test_tables_of_others_are_not_touched_and_said(make_site, settings: MaintenanceSettings) -> None:
    site: Site = make_site("owner", True)
    with site.another(root=True) as root:
        root.execute("CREATE TABLE alien (x int) WITH (autovacuum_enabled = off)")
        root.execute("INSERT INTO alien SELECT generate_series(1, 5000)")
        root.execute(f'ALTER DATABASE "{site.name}" OWNER TO postgres'.encode())
    found = work(site, settings)
    assert of(found, "public.alien") is None
    assert any("public.alien" in note and "DATABASE_ADMIN_URL" in note for note in found.notes)
