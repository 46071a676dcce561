"""A folder of documents, a store for its recovery points, and the keys it may be encrypted with."""

from __future__ import annotations

from pathlib import Path

import pytest

from objects.folder import FolderObjects
from orchestration.backups.streams.encryption import Keys
from tests.support.backups.file_trees import OLD, new_keys, write


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    write(folder / "说明.md", "# 说明\n" * 100)
    write(folder / "a" / "b.txt", "second", OLD + 1)
    write(folder / "a.txt", "first", OLD + 2)
    write(folder / "a" / "same.txt", "first", OLD + 3)
    write(folder / "empty", "")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> FolderObjects:
    return FolderObjects("primary", tmp_path / "store")


@pytest.fixture(params=["plain", "encrypted"])
def keys(request: pytest.FixtureRequest) -> Keys | None:
    return new_keys() if request.param == "encrypted" else None
