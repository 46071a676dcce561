"""A folder as a store: a disk that is full, read-only, locked or not mounted is told, and never taken for an empty store."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from objects.folder import FolderObjects
from objects.store import ObjectMissing, ObjectStoreError
from tests.support.object_stores import MEBIBYTE, NOW, content, keys, noise, one_sentence


def test_a_full_disk_is_one_sentence_and_leaves_the_old_object(small_disk: Path) -> None:
    store = FolderObjects("offsite", small_disk / "backups", "BACKUP_STORES")
    store.put("dump", [b"old"])
    free = store.free_bytes()
    assert free is not None
    assert MEBIBYTE < free <= 2 * MEBIBYTE
    with pytest.raises(ObjectStoreError, match="is full") as raised:
        store.put("dump", noise(4))
    one_sentence(raised.value, "offsite", store.url, "BACKUP_STORES", "untouched")
    assert content(store, "dump") == b"old"
    assert store.free_bytes() == free
    assert store.sweep(NOW) == 0


def test_a_disk_that_is_read_only_is_one_sentence(small_disk: Path) -> None:
    store = FolderObjects("offsite", small_disk / "backups", "BACKUP_STORES")
    store.put("dump", [b"old"])
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for change in (lambda: store.put("dump", [b"new"]), lambda: store.delete(["dump"])):
        with pytest.raises(ObjectStoreError, match="read-only") as raised:
            change()
        one_sentence(raised.value, store.url, "BACKUP_STORES")
    assert content(store, "dump") == b"old"


def test_a_folder_without_permission_is_one_sentence(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(ObjectStoreError, match="may not be used by this user") as raised:
        FolderObjects("offsite", tmp_path / "locked", "BACKUP_STORES").put("dump", [b"x"])
    one_sentence(raised.value, "BACKUP_STORES")


def test_a_disk_that_is_not_mounted_is_an_error_and_not_an_empty_store(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for folder in (tmp_path / "mnt" / "backup", tmp_path / "link"):
        store = FolderObjects("offsite", folder, "BACKUP_STORES")
        uses: list[Callable[[], object]] = [
            lambda: store.put("dump", [b"x"]),  # noqa: B023
            lambda: keys(store),  # noqa: B023
            lambda: content(store, "dump"),  # noqa: B023
            lambda: store.stat("dump"),  # noqa: B023
            lambda: store.delete(["dump"]),  # noqa: B023
            lambda: store.sweep(NOW),  # noqa: B023
            store.free_bytes,
        ]
        for use in uses:
            with pytest.raises(ObjectStoreError, match="mounted") as raised:
                use()
            assert not isinstance(raised.value, ObjectMissing)
            one_sentence(raised.value, "offsite", store.url, "BACKUP_STORES")
    assert not (tmp_path / "mnt").exists()


def test_what_is_in_a_folder_is_private_and_empty_folders_go(tmp_path: Path) -> None:
    store = FolderObjects("primary", tmp_path / "store")
    store.put("points/a/one", [b"1"])
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "store").rglob("*")}
    assert modes == {"points": 0o700, "a": 0o700, "one": 0o600}
    store.delete(["points/a/one"])
    assert list((tmp_path / "store").rglob("*")) == []


def test_a_folder_shows_files_only(tmp_path: Path) -> None:
    root = tmp_path / "store"
    (root / "lost+found").mkdir(parents=True)
    (root / "lost+found" / "x").touch()
    (root / "empty").mkdir()
    (root / "loop").symlink_to(root)
    (root / "nowhere").symlink_to(root / "none")
    os.mkfifo(root / "pipe")
    store = FolderObjects("primary", root)
    store.put("file", [b"1"])
    assert keys(store) == ["file"]
    for key in ("empty", "pipe"):
        assert store.stat(key) is None
        with pytest.raises(ObjectMissing):
            content(store, key)
