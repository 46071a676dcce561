"""A knowledge base of a test's own: real PostgreSQL, real vector store, and the Dagster job in process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
from qdrant_client import QdrantClient


@dataclass
class KnowledgeBase:
    """A folder of documents, and what the ingestion job made of it."""

    folder: Path
    database_url: str
    qdrant_url: str
    alias: str

    def write(self, path: str, text: str | bytes) -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    def ingest(self) -> dg.ExecuteInProcessResult:
        """Run the job as Dagster would, in this process. A failed run gives its result too."""
        from orchestration.definitions import defs

        return defs.resolve_job_def("ingestion").execute_in_process(
            instance=dg.DagsterInstance.ephemeral(), raise_on_error=False
        )

    def metadata(self, result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
        assert result.success, failures(result)
        [materialization] = result.asset_materializations_for_node(asset)
        return {key: value.value for key, value in materialization.metadata.items()}

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(query).fetchall()  # type: ignore[arg-type]

    def run(self, statement: str) -> None:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[arg-type]

    @cached_property
    def client(self) -> QdrantClient:
        return QdrantClient(self.qdrant_url, check_compatibility=False)

    def live(self) -> tuple[str, int]:
        """The collection and the release that readers are told of."""
        metadata = self.client.get_collection(self.alias).config.metadata or {}
        return metadata["collection"], metadata["live_release"]

    def live_passages(self) -> list[dict[str, Any]]:
        """The payloads that a reader may see, in the order of the documents."""
        from knowledge.releases.collection import release_filter

        collection, number = self.live()
        points, _ = self.client.scroll(collection, scroll_filter=release_filter(number), limit=10_000)
        return sorted((p.payload or {} for p in points), key=lambda payload: (payload["uri"], payload["start"]))


def failures(result: dg.ExecuteInProcessResult) -> str:
    """Why a run failed, in the words that the Dagster UI shows."""
    said = []
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            said.append(data.user_failure_data.description if data.user_failure_data else str(data.error))
    return "\n".join(str(line) for line in said)
