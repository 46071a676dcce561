"""What is said of an index's bloat is what a rebuild takes off it, within 5 points."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from embedded.services import postgres
from orchestration.maintenance.indexes import bloat
from orchestration.maintenance.indexes.catalog import read_indexes
from orchestration.maintenance.session import facts, one
from tests.integration.orchestration.maintenance.conftest import Site

ROWS = 50_000
INDEXES = {
    "fresh": (
        f"CREATE TABLE t AS SELECT i AS x, md5(i::text) AS y FROM generate_series(1, {ROWS}) i",
        "CREATE INDEX wanted ON t (x)",
    ),
    "fresh text": (
        f"CREATE TABLE t AS SELECT i AS x, left(repeat(md5(i::text), 3), (20 + random() * 70)::int) AS y FROM generate_series(1, {ROWS}) i",
        "CREATE INDEX wanted ON t (y)",
    ),
    "churned": (
        f"CREATE TABLE t AS SELECT i AS x, md5(i::text) AS y FROM generate_series(1, {ROWS}) i",
        "CREATE INDEX wanted ON t (x)",
        "DELETE FROM t WHERE x % 10 <> 0",
        "VACUUM t",
    ),
    "churned by updates": (
        f"CREATE TABLE t AS SELECT i AS x, (random() * 1e9)::int AS y FROM generate_series(1, {ROWS}) i",
        "CREATE INDEX wanted ON t (y)",
        "UPDATE t SET y = (random() * 1e9)::int",
        "VACUUM t",
        "UPDATE t SET y = (random() * 1e9)::int WHERE x % 2 = 0",
        "VACUUM t",
    ),
    "deduplicated": (
        f"CREATE TABLE t AS SELECT i AS x, i % 100 AS y FROM generate_series(1, {ROWS}) i",
        "CREATE INDEX wanted ON t (y)",
    ),
    "deduplicated and churned": (
        f"CREATE TABLE t AS SELECT i AS x, i % 100 AS y FROM generate_series(1, {2 * ROWS}) i",
        "CREATE INDEX wanted ON t (y)",
        "DELETE FROM t WHERE x % 7 <> 0",
        "VACUUM t",
    ),
    "uuid": (
        "CREATE TABLE t (x uuid DEFAULT gen_random_uuid())",
        "CREATE INDEX wanted ON t (x)",
        f"INSERT INTO t SELECT FROM generate_series(1, {ROWS})",
    ),
    "two columns with nulls": (
        f"CREATE TABLE t AS SELECT CASE WHEN i % 2 = 0 THEN i % 50 END AS x, now() + make_interval(secs => i) AS y "
        f"FROM generate_series(1, {ROWS}) i",
        "CREATE INDEX wanted ON t (x, y)",
    ),
    "inserted in random order, few values": (
        "CREATE TABLE t (x int, y text)",
        "CREATE INDEX wanted ON t (y)",
        f"INSERT INTO t SELECT i, 'value ' || (random() * 500)::int FROM generate_series(1, {ROWS}) i",
    ),
}


@pytest.fixture(scope="module", params=[True, False], ids=["pgstattuple", "statistics"])
def site(request: pytest.FixtureRequest, cluster: postgres.Cluster) -> Iterator[Site]:
    site = Site(cluster, "owner", request.param)
    yield site
    site.drop()


@pytest.mark.parametrize("kind", INDEXES)
@pytest.mark.slow
def test_bloat_is_within_5_points_of_the_truth(site: Site, kind: str) -> None:
    site.execute("DROP TABLE IF EXISTS t", *INDEXES[kind], "VACUUM ANALYZE t")
    with site.session() as connection:
        can = facts(connection)
        index = next(i for i in read_indexes(connection, can) if i.name == "wanted")
        said = bloat.best(connection, can, index)
        connection.execute("REINDEX INDEX wanted")
        truth = 1 - one(connection, "SELECT pg_relation_size('wanted')") / index.size
    assert said is not None
    assert (said.method == "estimated") == ("pgstattuple" not in can.extensions)
    print(f"{kind}: {said.method} {said.share:.3f}, truth {truth:.3f}")
    assert abs(said.share - truth) <= 0.05
