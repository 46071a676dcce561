"""What a store lists is what is there, in the order of the keys, and what is not there is told apart."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from objects.store import ObjectMissing, ObjectStore
from tests.support.object_stores import NOW, content, keys, one_sentence


@pytest.mark.slow
def test_a_listing_is_in_the_order_of_the_keys(store: ObjectStore) -> None:
    odd = ["a-b", "a.b/c", "a/b", "a/b.c", "a0", "文件/合同 条款.md", "文件/合同.md", "é", "with space/+%&=?#~"]
    names = odd + [f"many/{number:05d}" for number in range(1040)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.put(name, [b"x"]), names))
    assert keys(store) == sorted(names)
    assert keys(store, "a/") == ["a/b", "a/b.c"]
    assert keys(store, "many/0010") == [f"many/0010{number}" for number in range(10)]
    assert keys(store, "many/01") == [f"many/01{number:03d}" for number in range(40)]
    assert keys(store, "none") == []
    assert store.delete(iter(names)) == len(names)
    assert keys(store) == []


def test_what_is_deleted_is_gone_and_what_was_not_there_counts_too(store: ObjectStore) -> None:
    store.put("points/a/one", [b"1"])
    store.put("points/a/two", [b"2"])
    assert store.delete(["points/a/one", "points/b/none"]) == 2
    assert store.delete([]) == 0
    assert keys(store) == ["points/a/two"]
    assert store.stat("points/a/one") is None


def test_looking_at_one_object_tells_what_a_listing_tells(store: ObjectStore) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    store.put("文件/合同.md", [b"12345"])
    seen = store.stat("文件/合同.md")
    assert seen in list(store.list())
    assert seen is not None
    assert (seen.key, seen.size) == ("文件/合同.md", 5)
    assert before <= seen.modified <= datetime.now(UTC) + timedelta(seconds=2)
    assert store.stat("文件/合同") is None
    assert store.stat("文件") is None


def test_an_object_that_is_missing_is_told_apart(store: ObjectStore) -> None:
    store.put("there", [b"1"])
    with pytest.raises(ObjectMissing, match="primary") as raised:
        content(store, "points/none")
    one_sentence(raised.value, "points/none", store.url, "BACKUP_STORES")


def test_an_empty_store_has_nothing(store: ObjectStore) -> None:
    assert keys(store) == []
    assert store.stat("a") is None
    assert store.sweep(NOW) == 0
    assert store.delete(["a"]) == 1
