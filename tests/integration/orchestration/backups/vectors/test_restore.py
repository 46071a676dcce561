"""Collections come back whole under names that nobody reads, take over at once, and what is somebody else's is left alone."""

from __future__ import annotations

import msgspec
import pytest
from qdrant_client import models

from orchestration.backups.recovery_point import BackupError
from orchestration.backups.vectors import restore as vectors_restore
from tests.support.backups.vector_base import Vectors
from tests.support.vectors import vector_points


def test_lost_collections_come_back_under_their_own_names_with_their_alias(base: Vectors) -> None:
    before = vector_points.contents(base.client, base.live)
    part = base.capture()
    for name in base.ours():
        base.client.delete_collection(name)
    restored = base.restore(part)
    assert restored.names == {base.live: base.live}
    assert restored.renamed == {}
    assert restored.replaced == ()
    assert base.alias not in vector_points.aliases(base.client)
    vectors_restore.switch(base.settings, part, restored)
    assert vector_points.contents(base.client, base.alias) == before
    metadata = base.client.get_collection(base.alias).config.metadata
    assert metadata == {"collection": base.live, "live_release": 7, "fusion_weight": 0.3, "fingerprint": "abc"}
    assert vector_points.snapshots(base.client) == []


def test_a_collection_that_is_there_is_restored_beside_and_takes_over_at_once(base: Vectors) -> None:
    before = vector_points.contents(base.client, base.live)
    vector_points.lead(base.client, f"{base.alias}-second", base.live)
    part = base.capture()
    base.client.delete(base.live, models.PointIdsList(points=[before[0][0]]), wait=True)
    restored = base.restore(part)
    new = restored.names[base.live]
    assert new.startswith(f"{base.live}_r")
    assert restored.replaced == (base.live,)
    assert vector_points.aliases(base.client)[base.alias] == base.live
    assert len(vector_points.contents(base.client, base.alias)) == 299
    switched = vectors_restore.switch(base.settings, part, restored)
    assert vector_points.aliases(base.client).items() >= {base.alias: new, f"{base.alias}-second": new}.items()
    assert vector_points.contents(base.client, base.alias) == before
    assert (base.client.get_collection(new).config.metadata or {})["collection"] == new
    vectors_restore.switch_back(base.settings, switched)
    assert vector_points.aliases(base.client)[base.alias] == base.live
    # Whoever tidies up too early cannot take away what is in use.
    assert vectors_restore.discard(base.settings, [base.live, new, "nowhere"]) == [new]
    # The name does not grow with each restore.
    renamed = msgspec.structs.replace(
        part, collections=(msgspec.structs.replace(part.collections[0], name=f"{base.live}_r0123ab"),)
    )
    vector_points.create_knowledge(base.client, f"{base.live}_r0123ab")
    assert len(base.plan(renamed).names[f"{base.live}_r0123ab"]) == len(new)


def test_a_collection_of_somebody_else_is_restored_if_it_is_gone_and_else_left_alone(base: Vectors) -> None:
    theirs = f"shop-{base.alias}"
    vector_points.create_knowledge(base.client, theirs)
    part = base.capture()
    plan = base.plan(part)
    assert plan.left_alone == (theirs,)
    assert plan.names.keys() == {base.live}
    vector_points.lead(base.client, f"{base.alias}-theirs", theirs)
    with_alias = msgspec.structs.replace(part, aliases={**part.aliases, f"{base.alias}-theirs": theirs})
    assert base.plan(with_alias).left_alone == (
        theirs,
    )  # a store that is shared: their release is not set back with ours
    base.client.delete_collection(theirs)
    restored = base.restore(part)
    assert restored.names[theirs] == theirs
    vectors_restore.switch(base.settings, part, restored)
    assert base.client.count(theirs).count == 0


def test_a_scratch_restore_touches_no_alias_and_is_swept(base: Vectors) -> None:
    part = base.capture()
    before = vector_points.aliases(base.client)
    restored = base.restore(part, into=f"trial-{base.alias}")
    scratch = f"trial-{base.alias}_{base.live}"
    assert restored.names[base.live] == scratch
    assert restored.replaced == ()
    assert vector_points.contents(base.client, scratch) == vector_points.contents(base.client, base.live)
    assert vector_points.aliases(base.client) == before
    with pytest.raises(BackupError, match="already; choose another name"):
        base.restore(part, into=f"trial-{base.alias}")
    swept = vectors_restore.sweep_scratch(base.settings, f"trial-{base.alias}")
    assert sorted(swept) == sorted(restored.names.values())
    assert base.ours() == {base.live}
    for prefix in ("", base.alias):
        with pytest.raises(BackupError, match="nothing was deleted"):
            vectors_restore.sweep_scratch(base.settings, prefix)
    with pytest.raises(BackupError, match="QDRANT_COLLECTION"):
        base.restore(part, into=base.alias)
