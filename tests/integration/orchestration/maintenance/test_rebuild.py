"""index_maintenance rebuilds what is bloated, drops what interrupted rebuilds left, finds damage, and harms nothing."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from orchestration.maintenance.indexes.rebuild import IndexMaintenance, index_maintenance
from orchestration.maintenance.session import one
from tests.integration.orchestration.maintenance.conftest import Site
from tests.support.waiting import until
from zhiyun.repository import REPOSITORY
from zhiyun.settings import MaintenanceSettings

PLENTY = 1 << 40
TABLE = (
    "CREATE TABLE t (x int, y text)",
    "INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 20000) i",
    "CREATE INDEX wanted ON t (x)",
    "VACUUM ANALYZE t",
)
BLOAT = ("DELETE FROM t WHERE x % 10 <> 0", "VACUUM ANALYZE t")


@pytest.fixture
def small(settings: MaintenanceSettings) -> MaintenanceSettings:
    return settings.model_copy(update={"index_min_mb": 0.2, "snapshot_timeout": 1.0})


def work(site: Site, settings: MaintenanceSettings, free: int | None = PLENTY, **options: object) -> IndexMaintenance:
    with site.session() as connection:
        return index_maintenance(connection, settings, free_bytes=free, **options)  # type: ignore[arg-type]


def wanted(found: IndexMaintenance):
    return next(rebuild for rebuild in found.rebuilds if rebuild.name == "public.wanted")


def names(site: Site) -> set[str]:
    with site.another() as connection:
        return {row[0] for row in connection.execute("SELECT relname::text FROM pg_class WHERE relkind = 'i'")}


def test_a_healthy_index_is_left_alone(site: Site, small: MaintenanceSettings) -> None:
    site.execute(*TABLE)
    found = work(site, small)
    assert wanted(found).outcome == "fine"
    assert found.count("rebuilt") == 0
    assert found.invalid == ()


def test_a_bloated_index_is_rebuilt_once(every_site: Site, small: MaintenanceSettings) -> None:
    site = every_site
    site.execute(*TABLE, *BLOAT)
    rebuilt = wanted(work(site, small))
    assert rebuilt.outcome == "rebuilt", rebuilt.note
    assert rebuilt.known_from == "measured"
    assert rebuilt.size_after is not None
    assert rebuilt.bloat is not None
    assert abs(rebuilt.bloat - (1 - rebuilt.size_after / rebuilt.size)) <= 0.05
    again = work(site, small.model_copy(update={"index_min_mb": 0.0}))
    assert wanted(again).outcome == "fine"
    assert wanted(again).known_from == "baseline"


def test_the_baseline_suspects_and_the_index_itself_confirms(site: Site, small: MaintenanceSettings) -> None:
    site.execute(*TABLE)
    work(site, small)  # sets the baseline
    assert wanted(work(site, small)).known_from == "baseline"
    site.execute(*BLOAT)
    rebuilt = wanted(work(site, small))
    assert (rebuilt.outcome, rebuilt.known_from) == ("rebuilt", "measured")


def test_without_extensions_bloat_is_estimated_and_labelled(bare_site: Site, small: MaintenanceSettings) -> None:
    bare_site.execute(*TABLE, *BLOAT)
    found = work(bare_site, small)
    assert (wanted(found).outcome, wanted(found).known_from) == ("rebuilt", "estimated")
    assert any("estimated from statistics" in note for note in found.notes)
    assert any("amcheck is missing" in note for note in found.damage.notes)
    again = wanted(work(bare_site, small.model_copy(update={"index_min_mb": 0.0})))
    assert (again.outcome, again.known_from) == ("fine", "baseline")


def test_other_kinds_of_index_go_by_their_own_growth(site: Site, small: MaintenanceSettings) -> None:
    site.execute(
        "CREATE TABLE t (x int, y text[])",
        "INSERT INTO t SELECT i, ARRAY[md5(i::text)] FROM generate_series(1, 10000) i",
        "CREATE INDEX wanted ON t USING gin (y)",
        "VACUUM ANALYZE t",
    )
    first = wanted(work(site, small))
    assert first.outcome == "fine"
    assert "its size now is the baseline" in first.note
    site.execute("DELETE FROM t WHERE x % 10 <> 0", "VACUUM ANALYZE t")
    rebuilt = wanted(work(site, small))
    assert (rebuilt.outcome, rebuilt.known_from) == ("rebuilt", "baseline")


def test_disk_that_is_short_or_unseen_is_said(site: Site, small: MaintenanceSettings) -> None:
    site.execute(*TABLE, *BLOAT)
    short = wanted(work(site, small, free=100_000))
    assert (short.outcome, "twice its size is to be free" in short.note) == ("left", True)
    unseen = work(site, small.model_copy(update={"unseen_disk_mb": 0.1}), free=None)
    assert wanted(unseen).outcome == "left"
    assert any("MAINTENANCE_UNSEEN_DISK_MB" in note for note in unseen.notes)
    assert wanted(work(site, small, free=None)).outcome == "rebuilt"


def test_time_that_is_short_leaves_it_for_the_next_run(site: Site, small: MaintenanceSettings) -> None:
    site.execute(*TABLE, *BLOAT)
    left = wanted(work(site, small.model_copy(update={"index_minutes": 0.001})))
    assert (left.outcome, "MAINTENANCE_INDEX_MINUTES" in left.note) == ("left", True)


def test_stopping_leaves_the_rest(site: Site, small: MaintenanceSettings) -> None:
    site.execute(*TABLE, *BLOAT)
    found = work(site, small, stop=lambda: True)
    assert found.stopped
    assert wanted(found).outcome == "left"


def test_an_old_transaction_is_named_and_not_waited_for(site: Site, small: MaintenanceSettings) -> None:
    site.execute(*TABLE, *BLOAT)
    with site.another() as other, other.transaction():
        other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT 1 FROM pg_class")
        time.sleep(1.1)  # a transaction is old from a second on: its age is what is waited for
        left = wanted(work(site, small))
    assert left.outcome == "left"
    assert "it would wait: process" in left.note
    assert wanted(work(site, small)).outcome == "rebuilt"


def test_a_transaction_that_does_not_end_is_given_up_and_leaves_nothing_behind(
    site: Site, small: MaintenanceSettings
) -> None:
    site.execute(*TABLE, *BLOAT)
    before = names(site)
    with site.another() as other, other.transaction():
        other.execute("UPDATE t SET y = y WHERE x = 10")  # younger than the limit when the rebuild begins
        left = wanted(work(site, small))
        assert left.outcome == "left"
        assert "did not end within MAINTENANCE_SNAPSHOT_TIMEOUT; the index is as it was" in left.note
    rebuilt = work(site, small)
    assert wanted(rebuilt).outcome == "rebuilt"
    assert names(site) == before


@pytest.mark.slow
def test_a_process_killed_in_the_middle_leaves_what_the_next_run_drops(
    every_site: Site, small: MaintenanceSettings
) -> None:
    site = every_site
    site.execute(*TABLE, *BLOAT)
    before = names(site)
    code = (
        "import sys\n"
        "from orchestration.maintenance.session import session\n"
        "from orchestration.maintenance.indexes.rebuild import index_maintenance\n"
        "from zhiyun.settings import MaintenanceSettings\n"
        "with session(sys.argv[1], lock_timeout=1) as connection:\n"
        "    settings = MaintenanceSettings(index_min_mb=0.2, snapshot_timeout=60)\n"
        "    index_maintenance(connection, settings, free_bytes=1 << 40)\n"
    )
    with site.another() as other, other.transaction():
        other.execute("UPDATE t SET y = y WHERE x = 10")  # holds the rebuild up where the new index is there already
        process = subprocess.Popen([sys.executable, "-c", code, site.url], cwd=REPOSITORY)
        until(lambda: names(site) > before)
        process.kill()
        process.wait()
        with site.another() as looking:
            until(
                lambda: not one(looking, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'REINDEX%'"
                                         " AND datname = current_database() AND state = 'active'")
            )  # fmt: skip
    left = names(site) - before
    assert left == {"wanted_ccnew"}
    found = work(site, small)
    assert [(i.name, i.outcome) for i in found.invalid] == [("public.wanted_ccnew", "dropped")]
    assert wanted(found).outcome == "rebuilt"
    assert names(site) == before


def test_an_invalid_index_of_another_name_is_reported_with_what_mends_it(
    site: Site, small: MaintenanceSettings
) -> None:
    site.execute(*TABLE, "INSERT INTO t VALUES (1, 'twice')")
    with pytest.raises(Exception, match="could not create unique index"):
        site.execute("CREATE UNIQUE INDEX CONCURRENTLY broken ON t (x)")
    with pytest.raises(Exception, match="could not create unique index"):
        site.execute("CREATE UNIQUE INDEX CONCURRENTLY impostor_ccnew ON t (x)")
    found = {invalid.name: invalid for invalid in work(site, small).invalid}
    assert found["public.broken"].outcome == "reported"
    assert found["public.broken"].ddl.startswith("REINDEX INDEX CONCURRENTLY")
    assert "CREATE UNIQUE INDEX broken" in found["public.broken"].note
    assert found["public.impostor_ccnew"].outcome == "reported"
    assert {"broken", "impostor_ccnew"} <= names(site)


def test_amcheck_finds_damage_in_turn(make_site, small: MaintenanceSettings) -> None:
    site: Site = make_site("superuser", True)
    site.execute(
        *TABLE,
        "CREATE FUNCTION compare(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT btint4cmp($1, $2)'",
        "CREATE OPERATOR CLASS fickle FOR TYPE int4 USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, "
        "OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 compare(int, int)",
        "CREATE TABLE d (x int)",
        "INSERT INTO d SELECT generate_series(1, 500)",
        "CREATE INDEX damaged ON d (x fickle)",
    )
    sound = work(site, small).damage
    assert sound.damaged == ()
    assert sound.left == 0
    site.execute(
        "CREATE OR REPLACE FUNCTION compare(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT btint4cmp($2, $1)'"
    )
    found = work(site, small).damage
    assert [(d.name, d.ddl) for d in found.damaged] == [
        ("public.damaged", 'REINDEX INDEX CONCURRENTLY "public"."damaged";')
    ]
    nothing = work(site, small.model_copy(update={"amcheck_minutes": 0.0})).damage
    assert nothing.checked == 0
    assert nothing.left > 0


def test_an_ordinary_owner_is_told_that_amcheck_is_not_his(make_site, small: MaintenanceSettings) -> None:
    site: Site = make_site("owner", True)
    found = work(site, small).damage
    assert found.checked == 0
    assert any("GRANT EXECUTE" in note for note in found.notes)


def test_a_database_without_the_platforms_tables_is_one_sentence(site: Site, small: MaintenanceSettings) -> None:
    site.execute("DROP TABLE operations.index_baselines")
    with pytest.raises(Exception, match="run `python -m migrations upgrade`"):
        work(site, small)
