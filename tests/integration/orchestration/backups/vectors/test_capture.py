"""The vector store goes into a recovery point whole, and no snapshot is left behind on the node."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import pytest

from orchestration.backups.vectors import capture as vectors_capture
from orchestration.backups.vectors.node import Node
from tests.support.backups.memory_objects import MemoryObjects
from tests.support.backups.vector_base import Vectors, opened
from tests.support.vectors import vector_points
from tests.support.vectors.vector_store import ServerProcess


def test_a_point_has_every_collection_and_leaves_nothing_on_the_node(base: Vectors) -> None:
    vector_points.create_knowledge(base.client, f"{base.alias}_bbbb")  # retired: no alias leads to it
    said, bytes_seen = list[str](), list[int]()
    part = base.capture(say=said.append, progress=bytes_seen.append)
    assert [each.name for each in part.collections] == sorted([base.live, f"{base.alias}_bbbb"])
    assert {each.name: each.points for each in part.collections} == {base.live: 300, f"{base.alias}_bbbb": 0}
    assert part.aliases == {base.alias: base.live}
    assert (part.live_collection, part.live_release) == (base.live, 7)
    assert part.version
    [live] = [each for each in part.collections if each.name == base.live]
    assert live.config["metadata"]["live_release"] == 7
    assert live.config["params"]["vectors"]["dense"]["size"] == 256
    assert live.snapshot.key == f"points/p/1/qdrant-{base.live}.snapshot"
    assert sum(bytes_seen) == sum(each.snapshot.raw_size for each in part.collections)
    assert any(base.live in line for line in said)
    assert vector_points.snapshots(base.client) == []
    if part.engine == "embedded":
        assert hashlib.sha256(base.store.objects[live.snapshot.key]).hexdigest() == live.checksum


@pytest.mark.slow
def test_names_that_are_no_file_names_get_keys_of_their_own(base: Vectors) -> None:
    odd = [f"知识 库 {base.alias}", f"{base.alias}-{'x' * 200}"]
    for name in odd:
        vector_points.create_knowledge(base.client, name)
    part = base.capture()
    keys = {each.snapshot.key for each in part.collections}
    assert len(keys) == 3
    assert all(len(key) < 200 and key.isascii() for key in keys)
    for name in odd:
        base.client.delete_collection(name)
    restored = base.restore(part)
    assert {restored.names[name] for name in odd} == set(odd)


def test_a_store_that_fails_ends_the_capture_and_leaves_no_snapshot_on_the_node(base: Vectors) -> None:
    class Full(MemoryObjects):
        def put(self, key: str, chunks: Iterable[bytes]) -> int:
            next(iter(chunks))
            raise OSError("no space left on device")

    base.store = Full()
    with pytest.raises(OSError, match="no space"):
        base.capture()
    assert vector_points.snapshots(base.client) == []


def test_old_snapshots_on_the_node_are_swept_and_younger_ones_are_not(data: Path, tmp_path: Path) -> None:
    server = ServerProcess(data, log=tmp_path / "log").wait_until_ready()
    try:
        base = opened(server.url)
        old, young = (base.client.create_snapshot(base.live) for _ in range(2))
        full = base.client.create_full_snapshot()
        assert old
        assert young
        assert full
        week_ago = time.time() - 7 * 86400
        for path in data.rglob("*.snapshot"):
            if path.name != young.name:
                os.utime(path, (week_ago, week_ago))
        with Node(base.settings) as node:
            assert vectors_capture.sweep_node_snapshots(node, timedelta(days=8)) == []
            swept = vectors_capture.sweep_node_snapshots(node, timedelta(days=6))
        assert set(swept) == {f"{base.live}/{old.name}", full.name}
        assert vector_points.snapshots(base.client) == [young.name]
        base.client.close()
    finally:
        server.stop()


@pytest.mark.slow
def test_a_collection_that_is_written_to_all_the_while_is_captured_and_says_so(
    base: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors_capture, "_PAUSE", 0.0)
    over = threading.Event()

    def write() -> None:
        number = 1000
        while not over.is_set():
            base.client.upsert(base.live, [vector_points.passage(number)], wait=True)
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        part = base.capture()
    finally:
        over.set()
        writer.join()
    [live] = [each for each in part.collections if each.name == base.live]
    assert not live.settled
    assert live.points > 300
    assert vector_points.snapshots(base.client) == []
    restored = base.restore(part)
    assert 300 < restored.points[restored.names[base.live]] <= live.points
