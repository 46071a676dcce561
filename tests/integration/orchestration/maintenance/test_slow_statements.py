"""slow_query_report tells what took the time, by which plan, and what got slower; never a value."""

from __future__ import annotations

import pytest

from orchestration.maintenance.session import one
from orchestration.maintenance.statements.slow import SlowQueries, slow_query_report
from orchestration.maintenance.statements.snapshots import normalised
from tests.integration.orchestration.maintenance.conftest import Site
from zhiyun.settings import MaintenanceSettings

SLOW = "SELECT pg_sleep(0.06), 'a secret value' AS hidden"
QUICK = "SELECT count(*) FROM t WHERE x = 7"
TABLE = ("CREATE TABLE t (x int, y text)", "INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 2000) i")


@pytest.fixture
def strict(settings: MaintenanceSettings) -> MaintenanceSettings:
    return settings.model_copy(update={"slow_query_ms": 50.0})


def work(site: Site, settings: MaintenanceSettings) -> SlowQueries:
    with site.session() as connection:
        return slow_query_report(connection, settings)


def test_slow_statements_of_the_time_between_two_reports(every_site: Site, strict: MaintenanceSettings) -> None:
    site = every_site
    site.execute(*TABLE, SLOW)
    first = work(site, strict)
    assert first.since is None
    site.execute(SLOW, SLOW, QUICK)
    second = work(site, strict)
    assert second.since is not None
    [slow] = [s for s in second.slow if "pg_sleep" in s.text]
    assert slow.counters.calls == 2
    assert slow.counters.mean_ms >= 50
    assert "secret" not in str(second)
    assert not [s for s in second.slow if "count(*)" in s.text]
    site.execute(QUICK)
    assert work(site, strict).slow == []


def test_a_plan_is_shown_where_the_server_can_make_one_without_values(site: Site, strict: MaintenanceSettings) -> None:
    # Plans are made of the few that took the most time: these do, however slow the report's own statements were.
    site.execute(TABLE[0], "INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 50000) i")
    work(site, strict)
    site.execute(*[QUICK, "DELETE FROM t WHERE x = 5"] * 20)
    found = work(site, strict)
    with site.another() as connection:
        version = connection.info.server_version // 10000
        assert one(connection, "SELECT count(*) FROM t") == 49_999
    plans = {s.text: s.plan for s in found.statements}
    [plan] = [plan for text, plan in plans.items() if text.startswith("SELECT count(*) FROM t")]
    [delete] = [plan for text, plan in plans.items() if text.startswith("DELETE FROM t")]
    if version >= 16:
        assert "Seq Scan on t" in plan
        assert "Delete on t" in delete
    else:
        assert (plan, delete) == ("", "")
        assert any("PostgreSQL 16 or later" in note for note in found.notes)


def test_what_got_slower_in_a_week_is_told(site: Site, strict: MaintenanceSettings) -> None:
    statement = "SELECT pg_sleep(0.001) FROM generate_series(1, 1)"
    site.execute(statement)
    work(site, strict)
    site.execute(*[statement] * 25)
    work(site, strict)
    site.execute(
        "UPDATE operations.statement_snapshots SET taken_at = taken_at - interval '7 days 1 hour'",
        *["SELECT pg_sleep(0.03) FROM generate_series(1, 1)"] * 25,
    )
    [regression] = work(site, strict).regressions
    assert "pg_sleep" in regression.text
    assert regression.now_ms > 2 * regression.before_ms


def test_without_a_snapshot_of_last_week_nothing_is_made_up(site: Site, strict: MaintenanceSettings) -> None:
    found = work(site, strict)
    assert found.regressions == ()
    assert any("no snapshot of a week ago" in note for note in found.notes)


def test_a_reset_of_the_counters_gives_no_negative_figures(site: Site, strict: MaintenanceSettings) -> None:
    site.execute(*TABLE, *[QUICK] * 5)
    work(site, strict)
    with site.another(root=True) as root:
        root.execute("SELECT pg_stat_statements_reset()")
    site.execute(QUICK)
    [found] = [s for s in work(site, strict).statements if s.text.startswith("SELECT count(*) FROM t")]
    assert found.counters.calls == 1


def test_old_snapshots_are_deleted_with_texts_that_none_needs(site: Site, strict: MaintenanceSettings) -> None:
    site.execute(*TABLE, QUICK)
    work(site, strict)
    site.execute("UPDATE operations.statement_snapshots SET taken_at = now() - interval '40 days'")
    assert work(site, strict).pruned == 1
    with site.another() as connection:
        assert one(connection, "SELECT count(*) FROM operations.statement_snapshots") == 1
        left = (
            "SELECT count(*) FROM operations.statements s WHERE NOT EXISTS (SELECT FROM operations.statement_figures f"
        )
        assert one(connection, left + " WHERE f.queryid = s.queryid)") == 0  # type: ignore[arg-type]


def test_without_the_extension_it_says_what_to_do(bare_site: Site, strict: MaintenanceSettings) -> None:
    found = work(bare_site, strict)
    assert not found.available
    assert found.notes == (
        "The extension pg_stat_statements is missing: set shared_preload_libraries = 'pg_stat_statements', restart "
        "PostgreSQL, and CREATE EXTENSION pg_stat_statements.",
    )


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("SELECT $1", "SELECT $1"),
        ("SELECT 'a''b', E'c\\'d', $tag$e'f$tag$, \"g'h\"", "SELECT '…', '…', '…', \"g'h\""),
        ("/* it's */ SELECT 'secret' -- it's\n, 'more'", "SELECT '…' , '…'"),
        ("ALTER ROLE someone PASSWORD 'secret'", "ALTER ROLE someone …"),
        ("COPY t FROM '/secret'", "COPY t FROM …"),
        ("SELECT 'unfinished secret", "SELECT '…'"),
    ],
)
def test_no_value_is_kept(text: str, kept: str) -> None:
    assert normalised(text) == kept
