"""Keys and a store for streams, which leave no thread behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from objects.folder import FolderObjects
from orchestration.backups.streams.encryption import Keys, generate
from zhiyun.settings import BackupSettings


@pytest.fixture(scope="module")
def keys() -> Keys:
    loaded = Keys.load(BackupSettings(key=generate()))
    assert loaded
    return loaded


@pytest.fixture
def store(tmp_path: Path) -> FolderObjects:
    return FolderObjects("primary", tmp_path / "store")


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before
