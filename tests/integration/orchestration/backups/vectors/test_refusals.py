"""A snapshot that does not fit, is damaged or holds another number of points is refused, and readers notice nothing."""

from __future__ import annotations

import msgspec
import pytest

from orchestration.backups.recovery_point import BackupError, PointDamaged
from orchestration.backups.vectors import restore as vectors_restore
from orchestration.backups.vectors.node import Node
from tests.support.backups.vector_base import Vectors
from tests.support.vectors import vector_points


def test_snapshots_of_another_engine_or_minor_version_are_refused_before_anything_is_touched(base: Vectors) -> None:
    part = base.capture()
    with Node(base.settings) as node:
        here = node.about()
    other = msgspec.structs.replace(
        part, engine="qdrant" if part.engine == "embedded" else "embedded", version="1.15.2"
    )
    with pytest.raises(BackupError, match="rebuilt from the database") as refusal:
        base.restore(other)
    assert "QDRANT_URL" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    if here.engine == "qdrant":
        with pytest.raises(BackupError, match="same minor version"):
            base.restore(msgspec.structs.replace(part, version="1.2.3"))
    assert base.ours() == {base.live}


@pytest.mark.parametrize(
    ("taken", "here", "fits"),
    [
        ("1.15.1", "1.15.4", True),
        ("1.15.4", "1.15.4", True),
        ("1.15.4", "1.15.3", False),
        ("1.15.4", "1.16.4", False),
        ("1.15.4", "2.15.4", False),
        ("1.15.4", "1.15.4-dev", True),
        ("", "1.15.4", False),
    ],
)
def test_a_server_s_snapshot_fits_the_same_minor_version_from_its_patch_on(taken: str, here: str, fits: bool) -> None:
    assert vectors_restore._fits(taken, here) is fits


@pytest.mark.parametrize("damage", ["flipped", "cut", "missing"])
def test_a_damaged_snapshot_is_refused_and_its_collection_removed(base: Vectors, damage: str) -> None:
    part = base.capture()
    key = next(each.snapshot.key for each in part.collections if each.name == base.live)
    content = base.store.objects.pop(key)
    middle = len(content) // 2
    if damage == "flipped":
        base.store.objects[key] = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    elif damage == "cut":
        base.store.objects[key] = content[:middle]
    before = vector_points.aliases(base.client)
    with pytest.raises(BackupError) as error:
        base.restore(part)
    assert isinstance(error.value, PointDamaged) or "HTTP 400" in str(error.value)
    assert base.ours() == {base.live}
    assert vector_points.aliases(base.client) == before


def test_a_count_that_differs_from_the_manifest_is_an_error(base: Vectors) -> None:
    part = base.capture()
    wrong = tuple(msgspec.structs.replace(each, points=each.points + 1) for each in part.collections)
    with pytest.raises(BackupError, match="removed again"):
        base.restore(msgspec.structs.replace(part, collections=wrong))
    assert base.ours() == {base.live}
    # Of a snapshot that was taken in the midst of writes the number is not known.
    unsettled = tuple(msgspec.structs.replace(each, settled=False) for each in wrong)
    assert base.restore(msgspec.structs.replace(part, collections=unsettled)).points
