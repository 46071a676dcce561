"""A vector store with a knowledge base in it, captured into a store in this process and restored from there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from qdrant_client import QdrantClient

from orchestration.backups.recovery_point import VectorsPart
from orchestration.backups.vectors import capture as vectors_capture
from orchestration.backups.vectors import restore as vectors_restore
from orchestration.backups.vectors.node import Limits, Node
from tests.support.backups.memory_objects import MemoryObjects
from tests.support.vectors import vector_points
from tests.support.vectors.vector_store import API_KEY, SERVER, connect
from zhiyun.settings import QdrantSettings

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


def opened(url: str) -> Vectors:
    """A knowledge base of its own: a live collection of 300 passages, with its alias."""
    key = API_KEY if url == SERVER else None
    settings = QdrantSettings(url=url, api_key=key or "", collection=vector_points.fresh_alias(), timeout=5)
    client = connect(url, key)
    found = Vectors(settings, client)
    vector_points.publish(client, found.alias, found.live, 7, range(300))
    return found
