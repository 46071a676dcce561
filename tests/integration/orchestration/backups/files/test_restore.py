"""A restore writes what the point has, and nothing else in the folder or outside it changes."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from objects.folder import FolderObjects
from orchestration.backups.files.folder import FolderFiles
from orchestration.backups.files.inventory import entries
from orchestration.backups.files.restore import restore
from orchestration.backups.recovery_point import BackupError, PointDamaged
from tests.support.backups.file_trees import OLD, capture, tree, write


def test_newer_files_stay_unless_told_and_others_are_left_alone(
    tmp_path: Path, docs: Path, store: FolderObjects
) -> None:
    part = capture(docs, store)
    write(docs / "a.txt", "newer", OLD + 10**12)
    write(docs / "a" / "b.txt", "older", OLD - 10**12)
    write(docs / "mine.txt", "not in the point")
    done = restore(store, part, {"docs": docs})
    assert (done.written, done.unchanged, done.kept_newer) == (1, 3, 1)
    assert (docs / "a.txt").read_text() == "newer"
    assert (docs / "a" / "b.txt").read_text() == "second"
    done = restore(store, part, {"docs": docs}, overwrite=True)
    assert (done.written, done.kept_newer) == (1, 0)
    assert (docs / "a.txt").read_text() == "first"
    assert (docs / "mine.txt").read_text() == "not in the point"


def test_a_source_without_a_target_is_refused_before_anything_is_written(
    tmp_path: Path, docs: Path, store: FolderObjects
) -> None:
    part = capture([FolderFiles("a", docs), FolderFiles("docs", docs)], store)
    with pytest.raises(BackupError, match=r"no place for the files of 'docs'.*Nothing was written"):
        restore(store, part, {"a": tmp_path / "back"})
    assert not (tmp_path / "back").exists()


def test_a_damaged_object_leaves_the_file_as_it_was_and_the_others_come_back(
    tmp_path: Path, docs: Path, store: FolderObjects
) -> None:
    part = capture(docs, store)
    entry = next(entry for entry in entries(store, part) if entry.path == "说明.md")
    path = Path(store.url.removeprefix("file://")) / entry.object
    path.write_bytes(path.read_bytes()[:-5])
    there = write(tmp_path / "back" / "说明.md", "as it was", OLD - 1)
    done = restore(store, part, {"docs": tmp_path / "back"})
    assert done.written == 4
    assert len(done.problems) == 1
    assert entry.object in done.problems[0]
    assert there.read_text() == "as it was"
    assert len(tree(tmp_path / "back")) == 5  # and nothing half-written


def test_a_restore_does_not_follow_a_link_out_of_its_folder(tmp_path: Path, docs: Path, store: FolderObjects) -> None:
    part = capture(docs, store)
    (tmp_path / "back").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "back" / "a").symlink_to(tmp_path / "outside")
    done = restore(store, part, {"docs": tmp_path / "back"})
    assert done.written == 3
    assert all("leads out" in problem for problem in done.problems)
    assert not list((tmp_path / "outside").iterdir())


@pytest.mark.parametrize("path", ["../out.txt", "/etc/out.txt", "a/../../out.txt", "%2E%2E/out.txt", "a//b", "."])
def test_an_inventory_that_names_a_path_outside_writes_nothing(tmp_path: Path, path: str) -> None:
    target = FolderFiles("docs", tmp_path / "back")
    with pytest.raises(PointDamaged, match="no path of a file"):
        target.write(path, [b"x"], OLD)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_ends_the_restore_in_one_sentence(
    tmp_path: Path, docs: Path, store: FolderObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = capture(docs, store)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(BackupError, match=r"takes no more files \(no space left on device\)"):
        restore(store, part, {"docs": tmp_path / "back"})
    assert not tree(tmp_path / "back")
