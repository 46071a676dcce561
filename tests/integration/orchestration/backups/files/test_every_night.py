"""A night costs only what changed since the last one, and nothing is taken for unchanged or deleted that is not."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from objects.folder import FolderObjects
from objects.store import ObjectStoreError
from orchestration.backups.files.folder import FolderFiles
from orchestration.backups.files.inventory import entries
from orchestration.backups.files.place import Files
from orchestration.backups.files.restore import verify
from orchestration.backups.recovery_point import BackupError, PointDamaged
from orchestration.backups.streams.encryption import Keys
from tests.support.backups.file_trees import OLD, Counting, capture, new_keys, objects, write
from tests.support.backups.recovery_points import MemoryObjects


def test_only_what_changed_is_read_and_only_new_content_is_written(
    docs: Path, store: FolderObjects, keys: Keys | None
) -> None:
    first = capture(docs, store, keys=keys)
    write(docs / "a.txt", "other", OLD + 9)
    write(docs / "new.txt", "second")
    (docs / "empty").unlink()
    source = Counting(docs)
    second = capture([source], store, entries(store, first, keys), keys)
    assert sorted(source.reads) == ["a.txt", "new.txt"]
    assert (second.files, second.added) == (5, 1)
    third = Counting(docs)
    capture([third], store, entries(store, second, keys), keys)
    assert third.reads == []
    assert verify(store, first, keys) == 4
    assert verify(store, second, keys) == 4


def test_a_file_that_was_written_just_now_is_read_again_the_next_night(docs: Path, store: FolderObjects) -> None:
    write(docs / "a.txt", "first", time.time_ns())
    first = capture(docs, store)
    source = Counting(docs)
    capture([source], store, entries(store, first))
    assert source.reads == ["a.txt"]


def test_files_are_read_again_with_a_new_key_or_when_an_object_is_missing_or_cut(
    docs: Path, store: FolderObjects
) -> None:
    old, new = new_keys(), new_keys()
    first = capture(docs, store, keys=old)
    second = capture(docs, store, entries(store, first, old), new)
    assert second.added == 4
    assert verify(store, second, new) == 4
    gone, cut = sorted(entry.object for entry in entries(store, second, new) if entry.path in ("a.txt", "a/b.txt"))
    store.delete([gone])
    path = Path(store.url.removeprefix("file://")) / cut
    path.write_bytes(path.read_bytes()[:-1])
    third = capture(docs, store, entries(store, second, new), new)
    assert third.added == 1  # an object that is there is trusted
    with pytest.raises(PointDamaged, match="is damaged"):
        verify(store, third, new)
    assert capture(docs, store, entries(store, third, new), new, check_existing=True).added == 1
    assert verify(store, third, new) == 4


def test_an_earlier_inventory_that_is_damaged_costs_reading_and_nothing_else(docs: Path, store: FolderObjects) -> None:
    first = capture(docs, store)
    path = Path(store.url.removeprefix("file://")) / first.inventory.key
    path.write_bytes(path.read_bytes()[:50])
    second = capture(docs, store, entries(store, first))
    assert second.files == 5
    assert "inventory of the point before cannot be read" in second.problems[0]
    assert verify(store, second) == 4


@pytest.mark.parametrize("gone", ["missing", "empty"])
def test_a_folder_that_is_gone_is_no_deletion(tmp_path: Path, docs: Path, store: FolderObjects, gone: str) -> None:
    other = write(tmp_path / "other" / "x", "x").parent
    sources: list[Files] = [FolderFiles("docs", docs), FolderFiles("other", other)]
    first = capture(sources, store)
    docs.rename(tmp_path / "elsewhere")
    if gone == "empty":
        docs.mkdir()
    before = {item.key for item in store.list()}
    with pytest.raises(BackupError, match=r"docs.*mounted.*No recovery point was made"):
        capture(sources, store, entries(store, first))
    assert {item.key for item in store.list()} == before
    # On the first night there is nothing to compare with: it is said, and the rest is backed up.
    part = capture(sources, store)
    assert part.files == 1
    assert any("docs" in problem for problem in part.problems) == (gone == "missing")


def test_a_store_that_breaks_off_leaves_no_inventory_and_the_next_try_goes_on(docs: Path) -> None:
    store = MemoryObjects()
    put = store.put

    def breaking(key: str, chunks: Iterable[bytes]) -> int:
        if len(store.objects) == 2:
            store.unreachable = "does not answer"
        return put(key, chunks)

    store.put = breaking  # type: ignore[method-assign]
    with pytest.raises(ObjectStoreError, match="does not answer"):
        capture(docs, store)
    store.put, store.unreachable = put, ""  # type: ignore[method-assign]
    assert len(objects(store)) == len(store.objects) == 2
    part = capture(docs, store)
    assert part.added == 2
    assert verify(store, part) == 4
