"""The vector store goes into a recovery point whole and comes back whole; whatever fails, readers notice nothing."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from qdrant_client import QdrantClient, models

from orchestration.backups.recovery_point import BackupError, PointDamaged, VectorsPart
from orchestration.backups.vectors import capture as vectors_capture
from orchestration.backups.vectors import restore as vectors_restore
from orchestration.backups.vectors.node import Limits, Node
from tests.support.backups.memory_objects import MemoryObjects
from tests.support.vectors import vector_points
from tests.support.vectors.vector_store import ServerProcess, connect
from zhiyun.settings import QdrantSettings

# Read once, before any test puts a store of its own there.
_SERVER = os.environ.get("QDRANT_URL")
_API_KEY = os.environ.get("QDRANT_API_KEY")
FAST = Limits(work=60, silence=1.5, ask=0.1)


@dataclass
class Vectors:
    """A vector store with a knowledge base in it, and what is done with it."""

    settings: QdrantSettings
    client: QdrantClient
    store: MemoryObjects = field(default_factory=MemoryObjects)

    @property
    def alias(self) -> str:
        return self.settings.collection

    @property
    def live(self) -> str:
        return f"{self.alias}_aaaa"

    def capture(self, **more: object) -> VectorsPart:
        skip: Callable[[str], bool] = lambda name: self.alias not in name  # noqa: E731
        return vectors_capture.capture(self.settings, self.store, "points/p/1/", skip=skip, **more)  # type: ignore[arg-type]

    def restore(self, part: VectorsPart, **more: object) -> vectors_restore.Restored:
        return vectors_restore.restore(self.settings, part, self.store, **more)  # type: ignore[arg-type]

    def plan(self, part: VectorsPart) -> vectors_restore.Plan:
        with Node(self.settings) as node:
            return vectors_restore.check(node, part)

    def ours(self) -> set[str]:
        return {name for name in vector_points.names(self.client) if self.alias in name}


@pytest.fixture(scope="module", params=["embedded", "server"] if _SERVER else ["embedded"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "server":
        assert _SERVER
        yield _SERVER
        return
    folder = tmp_path_factory.mktemp("vectors")
    server = ServerProcess(folder / "data", log=folder / "log").wait_until_ready()
    yield server.url
    server.stop()


def opened(url: str) -> Vectors:
    """A knowledge base of its own: a live collection of 300 passages, with its alias."""
    key = _API_KEY if url == _SERVER else None
    settings = QdrantSettings(url=url, api_key=key or "", collection=vector_points.fresh_alias(), timeout=5)
    client = connect(url, key)
    found = Vectors(settings, client)
    vector_points.publish(client, found.alias, found.live, 7, range(300))
    return found


@pytest.fixture
def base(url: str) -> Iterator[Vectors]:
    base = opened(url)
    yield base
    for name in base.ours():
        base.client.delete_collection(name)
    base.client.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


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


def test_without_room_on_the_node_the_sentence_says_so(data: Path, tmp_path: Path) -> None:
    server = ServerProcess(data, log=tmp_path / "log").wait_until_ready()
    base = opened(server.url)
    part = base.capture()
    server.stop()
    server = ServerProcess(data, "--reserve-mib", str(2**40), log=tmp_path / "log").wait_until_ready()
    try:
        full = Vectors(base.settings.model_copy(update={"url": server.url}), connect(server.url), base.store)
        for call in (full.capture, lambda: full.restore(part)):
            with pytest.raises(BackupError, match=r"HTTP 507.*make room on its disk") as error:
                call()
            assert f"QDRANT_URL={server.url}" in str(error.value)
            assert full.ours() == {base.live}
            assert vector_points.snapshots(full.client) == []
        full.client.close()
    finally:
        server.stop()
        base.client.close()


class Killing(MemoryObjects):
    """A store that kills a process while it is written to, or read."""

    process: int = 0
    at: str = ""

    def put(self, key: str, chunks: Iterable[bytes]) -> int:
        pieces = list[bytes]()
        for piece in chunks:
            pieces.append(piece)
            if self.at == "download":
                os.kill(self.process, signal.SIGKILL)
                self.at = ""
                time.sleep(0.2)
        return super().put(key, pieces)

    def read(self, key: str) -> Iterator[bytes]:
        for number, piece in enumerate(super().read(key)):
            if self.at == "upload" and number == 1:
                os.kill(self.process, signal.SIGKILL)
                self.at = ""
                time.sleep(0.2)
            yield piece


@pytest.mark.parametrize("moment", ["snapshot", "download", "upload", "recovery"])
def test_a_node_that_is_killed_is_told_in_one_sentence_and_the_next_try_is_whole(
    data: Path, tmp_path: Path, moment: str
) -> None:
    server = ServerProcess(data, log=tmp_path / "log").wait_until_ready()
    base = opened(server.url)
    client = base.client
    store = base.store = Killing()
    part = base.capture() if moment in ("upload", "recovery") else None
    store.process, store.at = server.process.pid, moment
    timers = list[threading.Timer]()

    def say(line: str) -> None:
        if (moment == "snapshot" and "make a snapshot" in line) or (moment == "recovery" and base.live in line):
            timers.append(threading.Timer(0.15, os.kill, (server.process.pid, signal.SIGKILL)))
            timers[-1].start()

    with pytest.raises(BackupError) as error:
        base.restore(part, say=say, limits=FAST) if part else base.capture(say=say, limits=FAST)
    for timer in timers:
        timer.cancel()
    assert f"QDRANT_URL={server.url}" in str(error.value)
    assert "\n" not in str(error.value)
    assert server.process.wait(20) == -signal.SIGKILL
    client.close()
    server = ServerProcess(data, log=tmp_path / "log").wait_until_ready()
    try:
        base.settings = base.settings.model_copy(update={"url": server.url})
        base.client = connect(server.url)
        # Nothing leads to what a kill may leave.
        assert vector_points.aliases(base.client) == {base.alias: base.live}
        part = base.capture()
        restored = base.restore(part)
        vectors_restore.switch(base.settings, part, restored)
        assert base.client.count(base.alias).count == 300
    finally:
        base.client.close()
        server.stop()


@pytest.mark.parametrize("moment", ["before", "snapshot", "restore"])
def test_a_node_that_hangs_is_given_up(data: Path, tmp_path: Path, moment: str) -> None:
    server = ServerProcess(data, log=tmp_path / "log").wait_until_ready()
    base = opened(server.url)
    base.settings = base.settings.model_copy(update={"timeout": 1})
    part = base.capture() if moment == "restore" else None

    def stop(line: str) -> None:
        if "make a snapshot" in line or "restore the collection" in line:
            server.process.send_signal(signal.SIGSTOP)

    try:
        if moment == "before":
            server.process.send_signal(signal.SIGSTOP)
        with pytest.raises(BackupError, match="see whether it hangs") as error:
            _ = base.restore(part, say=stop, limits=FAST) if part else base.capture(say=stop, limits=FAST)
        assert f"QDRANT_URL={server.url}" in str(error.value)
        server.process.send_signal(signal.SIGCONT)
        assert vector_points.aliases(base.client) == {base.alias: base.live}
        assert base.client.count(base.alias).count == 300
    finally:
        server.process.send_signal(signal.SIGCONT)
        base.client.close()
        server.stop()


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


def test_nobody_there_is_one_sentence_that_names_the_setting() -> None:
    settings = QdrantSettings(url="http://user:secret@127.0.0.1:1", timeout=2)
    with pytest.raises(BackupError, match="QDRANT_URL") as error:
        vectors_capture.capture(settings, MemoryObjects(), "points/p/1/")
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)
