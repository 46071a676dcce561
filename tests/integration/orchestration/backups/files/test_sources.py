"""Files may lie in folders and in buckets, as the settings say, and go from each kind into the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from objects.folder import FolderObjects
from objects.s3 import S3Objects
from orchestration.backups.files import restore as files_restore
from orchestration.backups.files.inventory import entries
from orchestration.backups.files.restore import restore, verify
from orchestration.backups.files.sources import StoredFiles, file_sources
from orchestration.backups.recovery_point import BackupError
from orchestration.backups.streams.encryption import Keys
from tests.support.backups.file_trees import capture, tree
from tests.support.backups.recovery_points import MemoryObjects
from zhiyun.settings import BackupSettings, KnowledgeSettings, S3Settings, SettingsError


def test_a_bucket_is_backed_up_and_brought_back_too(tmp_path: Path, docs: Path, store: FolderObjects) -> None:
    bucket = MemoryObjects("docs")
    for path, (content, _) in tree(docs).items():
        bucket.put(path, [content])
    part = capture([StoredFiles(bucket)], store)
    assert (part.files, part.added) == (5, 4)
    second = capture([StoredFiles(bucket)], store, entries(store, part))
    assert second.added == 0
    other = MemoryObjects("docs")
    assert restore(store, part, {"docs": other}).written == 5
    assert {key: data for key, (data, _) in other.objects.items()} == {
        key: data for key, (data, _) in bucket.objects.items()
    }
    assert restore(store, part, {"docs": other}).unchanged == 5
    # A folder's files into a bucket, and a bucket's into a folder.
    assert restore(store, part, {"docs": tmp_path / "back"}).written == 5
    assert {path: content for path, (content, _) in tree(tmp_path / "back").items()} == {
        path: content for path, (content, _) in tree(docs).items()
    }
    bucket.objects.clear()
    with pytest.raises(BackupError, match="is empty"):
        capture([StoredFiles(bucket)], store, entries(store, part))


def test_a_real_bucket_holds_sources_points_and_what_comes_back(
    tmp_path: Path, docs: Path, s3_bucket: str, s3_settings: S3Settings, keys: Keys | None
) -> None:
    store = S3Objects("primary", s3_bucket, "points of zhiyun", s3_settings)
    source = StoredFiles(S3Objects("docs", s3_bucket, "source", s3_settings, "BACKUP_FILES"))
    for path, (content, _) in tree(docs).items():
        source.store.put(path, [content])
    part = capture([source], store, keys=keys)
    assert (part.files, part.added) == (5, 4)
    assert verify(store, part, keys) == 4
    assert restore(store, part, {"docs": tmp_path / "back"}, keys=keys).written == 5
    assert {path: content for path, (content, _) in tree(tmp_path / "back").items()} == {
        path: content for path, (content, _) in tree(docs).items()
    }
    target = S3Objects("docs", s3_bucket, "target", s3_settings, "BACKUP_FILES")
    assert restore(store, part, {"docs": target}, keys=keys).written == 5
    assert restore(store, part, {"docs": target}, keys=keys).unchanged == 5
    other = FolderObjects("offsite", tmp_path / "offsite")
    assert files_restore.copy(store, other, part, keys) == 4


def test_the_sources_are_those_of_the_settings(tmp_path: Path) -> None:
    knowledge = KnowledgeSettings(sources=f"docs={tmp_path}/a,{tmp_path}/b")
    found = file_sources(BackupSettings(), knowledge, S3Settings())
    assert [(source.name, source.url) for source in found] == [
        ("docs", f"file://{tmp_path}/a"),
        ("b", f"file://{tmp_path}/b"),
    ]
    found = file_sources(BackupSettings(files=f"{tmp_path}/x,kept=s3://bucket/prefix"), knowledge, S3Settings())
    assert [(source.name, source.url) for source in found] == [
        ("x", f"file://{tmp_path}/x"),
        ("kept", "s3://bucket/prefix"),
    ]
    with pytest.raises(SettingsError, match="BACKUP_FILES"):
        file_sources(BackupSettings(files="a=,"), knowledge, S3Settings())
