"""collection_maintenance mends payload indexes, reports what belongs to no release, and deletes only scratch."""

from __future__ import annotations

import psycopg
import pytest
from qdrant_client import QdrantClient, models

from knowledge.releases.collection import PAYLOAD_INDEXES
from orchestration.maintenance.collections import CollectionMaintenance, collection_maintenance
from tests.support.knowledge_base import KnowledgeBase
from zhiyun.settings import QdrantSettings, load


@pytest.fixture
def base(knowledge_base: KnowledgeBase) -> KnowledgeBase:
    """A knowledge base with a live release."""
    knowledge_base.write("a.md", "# 退款\n\n退款在三个工作日内到账。\n")
    knowledge_base.write("b.md", "# 发票\n\n发票在订单页面开具。\n")
    result = knowledge_base.ingest()
    assert result.success
    return knowledge_base


def work(base: KnowledgeBase, **options: object) -> CollectionMaintenance:
    with psycopg.connect(base.database_url, autocommit=True) as connection:
        return collection_maintenance(connection, load(QdrantSettings), **options)  # type: ignore[arg-type]


def make(client: QdrantClient, name: str) -> None:
    client.create_collection(name, vectors_config=models.VectorParams(size=2, distance=models.Distance.COSINE))


def test_a_healthy_knowledge_base_gives_no_alarm_and_a_missing_payload_index_is_created(base: KnowledgeBase) -> None:
    assert work(base, stop=lambda: True).collections == ()
    found = work(base)
    [live] = [c for c in found.collections if c.role == "live"]
    assert live.name == base.live()[0]
    assert live.points == live.expected == len(base.live_passages())
    assert (live.optimizer, live.created_indexes, live.retired) == ("ok", (), 0)
    assert (found.problems, found.orphans, found.orphan_aliases, found.deleted) == ((), (), (), ())
    base.client.delete_payload_index(live.name, "removed_in")
    [live] = [c for c in work(base).collections if c.role == "live"]
    assert live.created_indexes == ("removed_in",)
    assert set(PAYLOAD_INDEXES) <= set(base.client.get_collection(live.name).payload_schema)


def test_orphans_are_reported_and_stay_and_scratch_goes(base: KnowledgeBase) -> None:
    orphan, scratch, other = f"{base.alias}_000000000000", f"drill_{base.alias}", f"other{base.alias}"
    for name in (orphan, scratch, other):
        make(base.client, name)
    operation = models.CreateAlias(collection_name=orphan, alias_name=f"old{base.alias}")
    base.client.update_collection_aliases([models.CreateAliasOperation(create_alias=operation)])
    try:
        found = work(base)
        assert found.orphans == (orphan,)
        assert found.orphan_aliases == (f"old{base.alias} -> {orphan}",)
        assert scratch in found.deleted
        there = {c.name for c in base.client.get_collections().collections}
        assert {orphan, other} <= there
        assert scratch not in there
    finally:
        for name in (orphan, scratch, other):
            base.client.delete_collection(name)


def test_retired_points_are_counted_and_what_is_lost_is_told(base: KnowledgeBase) -> None:
    (base.folder / "a.md").unlink()
    assert base.ingest().success
    found = work(base)
    assert found.problems == ()
    assert [c.retired for c in found.collections if c.role == "live"] == [1]
    collection, number = base.live()
    [passage] = base.live_passages()
    base.client.delete(collection, models.PointIdsList(points=[passage["passage_id"]]))
    [problem] = work(base).problems
    assert f"The live release {number} has 1 passages by the record and 0 in" in problem
    assert "zhiyun ingest" in problem
    operation = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=base.alias))
    base.client.update_collection_aliases([operation])
    found = work(base)
    assert any("points at nothing" in problem for problem in found.problems)
    assert [c.role for c in found.collections if c.name.startswith(base.alias)] == ["kept"]
