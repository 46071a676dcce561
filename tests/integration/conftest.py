"""Fixtures of the integration tests."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.knowledge_base import KnowledgeBase


@pytest.fixture
def knowledge_base(
    tmp_path: Path, migrated_database_url: str, qdrant_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[KnowledgeBase]:
    alias = f"kb_{uuid.uuid4().hex[:10]}"
    folder = tmp_path / "docs"
    folder.mkdir()
    for name, value in {
        "DATABASE_URL": migrated_database_url,
        "QDRANT_URL": qdrant_url,
        "QDRANT_COLLECTION": alias,
        "KNOWLEDGE_SOURCES": f"docs={folder}",
        "KNOWLEDGE_GOLDEN_SET": "",
        "ZHIYUN_HOME": str(tmp_path / "home"),
        "EMBEDDING_MODEL": "corpus",
    }.items():
        monkeypatch.setenv(name, value)
    base = KnowledgeBase(folder, migrated_database_url, qdrant_url, alias)
    yield base
    for collection in base.client.get_collections().collections:
        if collection.name.startswith(f"{alias}_"):
            base.client.delete_collection(collection.name)
