"""index_report finds what is unused, superfluous and missing, gives the DDL that mends it, and drops nothing."""

from __future__ import annotations

import pytest

from orchestration.maintenance.indexes.report import IndexReport, index_report
from tests.integration.orchestration.maintenance.conftest import Site
from zhiyun.settings import MaintenanceSettings

TABLE = (
    "CREATE TABLE t (id int PRIMARY KEY, x int, y text, z text)",
    "INSERT INTO t SELECT i, i, md5(i::text), md5(i::text) FROM generate_series(1, 12000) i",
)


@pytest.fixture
def at_once(settings: MaintenanceSettings) -> MaintenanceSettings:
    """An index is unused from its first day on."""
    return settings.model_copy(update={"unused_days": 0.0})


def work(site: Site, settings: MaintenanceSettings) -> IndexReport:
    with site.session() as connection:
        return index_report(connection, settings)


def names(found: IndexReport, *kinds: str) -> set[str]:
    return {finding.name for finding in found.of(*kinds)}


def mended(site: Site, found: IndexReport, *kinds: str) -> None:
    """Run the DDL of findings as an operator would."""
    site.execute(*[finding.ddl for finding in found.of(*kinds)])


def test_the_platforms_own_tables_give_no_alarm(every_site: Site, at_once: MaintenanceSettings) -> None:
    found = work(every_site, at_once.model_copy(update={"large_table_rows": 1}))
    assert found.findings == ()
    assert [(d.name, d.outcome) for d in found.declared] == [("chat.messages_by_time", "created")]


def test_an_unused_index_is_told_only_when_statistics_are_old_enough(
    every_site: Site, settings: MaintenanceSettings, at_once: MaintenanceSettings
) -> None:
    site = every_site
    site.execute(
        *TABLE,
        "INSERT INTO t SELECT i, i, md5(i::text), md5(i::text) FROM generate_series(12001, 60000) i",
        "CREATE INDEX idle ON t (x)",
        "CREATE INDEX busy ON t (y)",
        "CREATE UNIQUE INDEX guards ON t (x, y)",
        "VACUUM ANALYZE t",
        "SET enable_seqscan = off",
        "SELECT * FROM t WHERE y = 'a'",
    )
    early = work(site, settings)
    assert early.of("unused") == []
    assert any("scans have been counted for 0.0 days" in note for note in early.notes)
    found = work(site, at_once)
    assert names(found, "unused") == {"public.idle"}
    assert found.of("unused")[0].ddl == "DROP INDEX CONCURRENTLY public.idle;"
    # As old as the statistics may be: an index that was made yesterday has had no time to be used.
    site.execute("UPDATE operations.index_baselines SET first_seen_at = now() - interval '1 day'")
    with site.another(root=True) as root:
        root.execute("SELECT pg_stat_reset()")
    assert names(work(site, at_once.model_copy(update={"unused_days": 2.0})), "unused") == set()


def test_an_index_that_serves_a_foreign_key_is_not_called_unused(site: Site, at_once: MaintenanceSettings) -> None:
    site.execute(
        *TABLE,
        "CREATE TABLE child (id int REFERENCES t, filler text)",
        "INSERT INTO child SELECT 1 + i % 12000, md5(i::text) FROM generate_series(1, 60000) i",
        "CREATE INDEX served ON child (id) WITH (deduplicate_items = off)",
    )
    assert names(work(site, at_once), "unused", "missing") == set()


def test_duplicates_are_told_and_lookalikes_are_not(site: Site, settings: MaintenanceSettings) -> None:
    site.execute(
        *TABLE,
        "CREATE INDEX original ON t (y)",
        "CREATE INDEX twin ON t (y)",
        "CREATE INDEX pattern ON t (y text_pattern_ops)",
        'CREATE INDEX collated ON t (y COLLATE "C")',
        "CREATE INDEX partial ON t (y) WHERE x > 10",
        "CREATE INDEX partial_too ON t (y) WHERE x > 11",
        "CREATE INDEX descending ON t (y DESC)",
        "CREATE INDEX nulls ON t (y NULLS FIRST)",
        "CREATE INDEX lowered ON t (lower(y))",
        "CREATE INDEX uppered ON t (upper(y))",
        "CREATE INDEX hashed ON t USING hash (y)",
        "CREATE INDEX including ON t (z) INCLUDE (x)",
        "CREATE INDEX including_too ON t (z) INCLUDE (y)",
        "CREATE INDEX key_again ON t (id)",
    )
    found = work(site, settings)
    duplicate = names(found, "duplicate")
    assert duplicate in ({"public.twin", "public.key_again"}, {"public.original", "public.key_again"})
    assert names(found, "prefix") == set()
    mended(site, found, "duplicate")
    assert names(work(site, settings), "duplicate", "prefix") == set()


def test_two_unique_indexes_lose_the_one_that_guarantees_less(site: Site, settings: MaintenanceSettings) -> None:
    site.execute(
        *TABLE,
        "ALTER TABLE t ADD CONSTRAINT once UNIQUE (x)",
        "CREATE TABLE child (x int REFERENCES t (x))",
        "ALTER TABLE t ADD CONSTRAINT once_more UNIQUE (x)",
        "CREATE UNIQUE INDEX loose ON t (x) NULLS NOT DISTINCT",
    )
    found = work(site, settings)
    assert names(found, "duplicate") == {"public.once_more"}
    assert found.of("duplicate")[0].ddl == "ALTER TABLE public.t DROP CONSTRAINT once_more;"


def test_a_prefix_is_a_softer_finding(site: Site, settings: MaintenanceSettings) -> None:
    site.execute(
        *TABLE,
        "CREATE INDEX short ON t (x)",
        "CREATE INDEX longer ON t (x, y)",
        "CREATE UNIQUE INDEX unique_short ON t (y)",
        "CREATE INDEX unique_longer ON t (y, z)",
        "CREATE INDEX other_order ON t (z, x)",
    )
    found = work(site, settings)
    assert names(found, "duplicate") == set()
    assert names(found, "prefix") == {"public.short"}
    assert "longer begins with its columns" in found.of("prefix")[0].why


def test_a_foreign_key_without_an_index_is_told(every_site: Site, settings: MaintenanceSettings) -> None:
    site = every_site
    site.execute(
        *TABLE,
        "CREATE TABLE small (t_id int REFERENCES t)",
        'CREATE TABLE "Large" ("t Id" int CONSTRAINT to_t REFERENCES t ON DELETE CASCADE, other int REFERENCES t, y int)',
        'INSERT INTO "Large" SELECT 1 + i % 12000, 1, i FROM generate_series(1, 12000) i',
        'CREATE INDEX not_all ON "Large" ("t Id") WHERE y > 10',
        'CREATE INDEX second ON "Large" (y, "t Id")',
        'CREATE INDEX with_values ON "Large" (other) WHERE other IS NOT NULL',
        "ANALYZE",
    )
    found = work(site, settings)
    assert [(f.table, f.name) for f in found.of("missing")] == [('public."Large"', "t Id")]
    assert "cascades into 12,000 rows" in found.of("missing")[0].why
    assert found.of("missing")[0].ddl == 'CREATE INDEX CONCURRENTLY ON public."Large" ("t Id");'
    mended(site, found, "missing")
    assert work(site, settings).of("missing") == []


def test_a_large_table_that_is_read_whole_again_and_again_is_told(site: Site, settings: MaintenanceSettings) -> None:
    site.execute(*TABLE, "ANALYZE t", *["SELECT count(*) FROM t WHERE id > 0 AND z = 'nothing'"] * 120)
    [finding] = work(site, settings).of("missing")
    assert finding.ddl == "CREATE INDEX CONCURRENTLY ON public.t (z);"
    mended(site, work(site, settings), "missing")
    with site.another() as connection:
        plan = str(connection.execute("EXPLAIN SELECT count(*) FROM t WHERE id > 0 AND z = 'nothing'").fetchall())
    assert "t_z_idx" in plan


def test_without_the_extension_the_columns_are_not_made_up(bare_site: Site, settings: MaintenanceSettings) -> None:
    bare_site.execute(*TABLE, "ANALYZE t", *["SELECT count(*) FROM t WHERE z = 'nothing'"] * 120)
    found = work(bare_site, settings)
    [finding] = found.of("missing")
    assert finding.name == "?"
    assert "EXPLAIN" in finding.ddl
    assert any("pg_stat_statements is missing" in note for note in found.notes)


def test_declared_indexes_are_created_once_and_again_when_a_build_failed(
    site: Site, settings: MaintenanceSettings
) -> None:
    site.execute(*TABLE)
    wanted = settings.model_copy(
        update={
            "declared_indexes": "CREATE INDEX t_by_y ON public.t (y) WHERE x > 5; create index gone on public.none (y)"
        }
    )
    assert [(d.name, d.outcome) for d in work(site, wanted).declared] == [
        ("chat.messages_by_time", "created"),
        ("public.t_by_y", "created"),
        ("public.gone", "failed"),
    ]
    assert work(site, wanted).declared[1].outcome == "there"
    with site.another(root=True) as root:
        root.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 't_by_y'::regclass")
    assert work(site, wanted).declared[1].outcome == "created"
    assert work(site, wanted).declared[1].outcome == "there"


def test_a_wrong_declaration_is_one_sentence(site: Site, settings: MaintenanceSettings) -> None:
    with pytest.raises(Exception, match="MAINTENANCE_DECLARED_INDEXES: 'DROP TABLE t' is not of the form"):
        work(site, settings.model_copy(update={"declared_indexes": "DROP TABLE t"}))
