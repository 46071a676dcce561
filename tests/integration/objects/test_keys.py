"""A key leads to its own object and nowhere else, and one that cannot be kept is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from objects.folder import FolderObjects
from objects.s3 import S3Objects
from objects.store import ObjectStore, ObjectStoreError
from tests.support.object_stores import content, keys, one_sentence
from zhiyun.settings import S3Settings


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "a\0b"])
def test_a_key_that_leads_elsewhere_is_refused(store: ObjectStore, key: str) -> None:
    for use in (lambda: store.put(key, [b"x"]), lambda: content(store, key), lambda: store.stat(key)):
        with pytest.raises(ObjectStoreError, match="no key"):
            use()
    with pytest.raises(ObjectStoreError, match="no key"):
        store.delete([key])


def test_a_key_cannot_be_the_folder_of_another(tmp_path: Path) -> None:
    store = FolderObjects("primary", tmp_path / "store")
    store.put("a/b", [b"1"])
    for key in ("a", "a/b/c", "a/.unfinished-1-x"):
        with pytest.raises(ObjectStoreError) as raised:
            store.put(key, [b"2"])
        one_sentence(raised.value)
    assert keys(store) == ["a/b"]


def test_a_store_keeps_below_its_prefix(s3_bucket: str, s3_settings: S3Settings) -> None:
    whole = S3Objects("whole", s3_bucket, "", s3_settings)
    one, two = (S3Objects(name, s3_bucket, name, s3_settings) for name in ("one", "one-more"))
    one.put("a", [b"1"])
    two.put("a", [b"2"])
    assert keys(whole) == ["one-more/a", "one/a"]
    assert keys(one) == ["a"]
    one.delete(["a"])
    assert content(two, "a") == b"2"


def test_a_key_that_s3_cannot_keep_is_one_sentence(s3_bucket: str, s3_settings: S3Settings) -> None:
    for key in ("长" * 400, "\udcff"):
        with pytest.raises(ObjectStoreError, match="cannot keep") as raised:
            S3Objects("offsite", s3_bucket, "", s3_settings).put(key, [b"x"])
        one_sentence(raised.value)
