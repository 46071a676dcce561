"""A node that is full, killed, hanging or not there is told in a sentence, and the next try is whole."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from orchestration.backups.recovery_point import BackupError
from orchestration.backups.vectors import capture as vectors_capture
from orchestration.backups.vectors import restore as vectors_restore
from tests.support.backups.memory_objects import MemoryObjects
from tests.support.backups.vector_base import FAST, Vectors, opened
from tests.support.vectors import vector_points
from tests.support.vectors.vector_store import ServerProcess, connect
from zhiyun.settings import QdrantSettings


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
@pytest.mark.slow
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
@pytest.mark.slow
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


def test_nobody_there_is_one_sentence_that_names_the_setting() -> None:
    settings = QdrantSettings(url="http://user:secret@127.0.0.1:1", timeout=2)
    with pytest.raises(BackupError, match="QDRANT_URL") as error:
        vectors_capture.capture(settings, MemoryObjects(), "points/p/1/")
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)
