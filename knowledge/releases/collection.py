"""The vector store's side of the knowledge base: collections, points, and the live release.

A collection `knowledge_<fingerprint>` holds the passages of every kept release of one fingerprint; the alias
`knowledge` points at the one that customers are answered from, and its metadata says which release that is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

import httpx
from qdrant_client import QdrantClient, models
from qdrant_client.conversions.common_types import QueryResponse
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException

from knowledge.releases.vector_store import CURRENT, DENSE, LEXICAL, Live, Point, VectorStoreUnavailable
from zhiyun.settings import QdrantSettings

# What every query filters on, and what deletions look up.
PAYLOAD_INDEXES = {
    "added_in": models.PayloadSchemaType.INTEGER,
    "removed_in": models.PayloadSchemaType.INTEGER,
    "document_id": models.PayloadSchemaType.KEYWORD,
}
_BATCH = 256
_PAGE = 5000  # ids in one answer
_T = TypeVar("_T")


class Collections:
    """The calls that the pipeline makes. Every failure is a VectorStoreUnavailable."""

    def __init__(self, settings: QdrantSettings) -> None:
        self.alias = settings.collection
        self._url = settings.url
        # A batch of points may wait for the store's flush; a reader's call may not, and has a client of its own.
        self._client = QdrantClient(
            url=settings.url,
            api_key=settings.api_key or None,
            timeout=max(60, settings.timeout),
            check_compatibility=False,
        )

    def close(self) -> None:
        self._client.close()

    def name(self, fingerprint: str) -> str:
        return f"{self.alias}_{fingerprint[:12]}"

    def exists(self, collection: str) -> bool:
        return self._call(lambda: self._client.collection_exists(collection))

    def create(self, collection: str, dimensions: int, metadata: dict[str, Any]) -> None:
        """An empty collection with its payload indexes."""

        def create() -> None:
            self._client.create_collection(
                collection,
                vectors_config={DENSE: models.VectorParams(size=dimensions, distance=models.Distance.COSINE)},
                sparse_vectors_config={LEXICAL: models.SparseVectorParams(modifier=models.Modifier.IDF)},
                metadata=metadata,
            )
            for field, kind in PAYLOAD_INDEXES.items():
                self._client.create_payload_index(collection, field, kind)

        self._call(create)

    def delete(self, collection: str) -> None:
        self._call(lambda: self._client.delete_collection(collection))

    def all(self) -> list[str]:
        """Collections of this knowledge base, whatever their fingerprint."""
        found = self._call(lambda: self._client.get_collections().collections)
        return sorted(c.name for c in found if c.name.startswith(f"{self.alias}_"))

    def upsert(self, collection: str, points: Iterable[Point]) -> int:
        """Write points in batches; gives how many."""
        written = 0
        batch: list[models.PointStruct] = []

        def send() -> None:
            self._call(lambda: self._client.upsert(collection, batch, wait=True))

        for point in points:
            batch.append(
                models.PointStruct(
                    id=str(point.id),
                    vector={
                        DENSE: list(point.dense),
                        LEXICAL: models.SparseVector(indices=point.lexical.indices, values=point.lexical.values),
                    },
                    payload=point.payload,
                )
            )
            if len(batch) == _BATCH:
                send()
                written += len(batch)
                batch = []
        if batch:
            send()
            written += len(batch)
        return written

    def set_removed_in(self, collection: str, ids: Sequence[UUID], release: int) -> None:
        """Mark points as no longer part of `release` and later; CURRENT opens them again."""
        for start in range(0, len(ids), _BATCH):
            part = models.PointIdsList(points=[str(i) for i in ids[start : start + _BATCH]])
            self._call(lambda part=part: self._client.set_payload(collection, {"removed_in": release}, part, wait=True))

    def delete_added_in(self, collection: str, release: int) -> None:
        condition = models.FieldCondition(key="added_in", match=models.MatchValue(value=release))
        self._delete(collection, models.Filter(must=[condition]))

    def delete_removed_by(self, collection: str, release: int) -> None:
        """Delete what no release from `release` on has."""
        condition = models.FieldCondition(key="removed_in", range=models.Range(lte=release))
        self._delete(collection, models.Filter(must=[condition]))

    def _delete(self, collection: str, condition: models.Filter) -> None:
        self._call(lambda: self._client.delete(collection, models.FilterSelector(filter=condition), wait=True))

    def count(self, collection: str, release: int) -> int:
        """Passages of a release."""
        return self._call(
            lambda: self._client.count(collection, count_filter=release_filter(release), exact=True).count
        )

    def ids(self, collection: str, release: int) -> Iterator[UUID]:
        """Ids of the points of a release, in no order that means anything."""
        place: Any = None
        while True:

            def page(place: Any = place) -> tuple[list[models.Record], Any]:
                return self._client.scroll(
                    collection,
                    scroll_filter=release_filter(release),
                    limit=_PAGE,
                    offset=place,
                    with_payload=False,
                    with_vectors=False,
                )

            records, place = self._call(page)
            yield from (UUID(str(record.id)) for record in records)
            if place is None:
                return

    def size(self, collection: str) -> int:
        """Points of whatever release."""
        return self._call(lambda: self._client.count(collection, exact=True).count)

    def forget_after(self, collection: str, release: int) -> None:
        """Take back what releases after this one have added and removed."""
        added = models.FieldCondition(key="added_in", range=models.Range(gt=release))
        removed = models.FieldCondition(key="removed_in", range=models.Range(gt=release, lt=CURRENT))
        self._delete(collection, models.Filter(must=[added]))
        closed = models.FilterSelector(filter=models.Filter(must=[removed]))
        self._call(lambda: self._client.set_payload(collection, {"removed_in": CURRENT}, closed, wait=True))

    def search(self, collection: str, requests: Sequence[models.QueryRequest]) -> list[QueryResponse]:
        return self._call(lambda: self._client.query_batch_points(collection, requests))

    def live(self) -> Live | None:
        """What readers are answered from, or None when nothing is published."""

        def read() -> Live | None:
            if not self._client.collection_exists(self.alias):
                return None
            return live_from(self._client.get_collection(self.alias).config.metadata or {})

        return self._call(read)

    def publish(self, collection: str, metadata: dict[str, Any]) -> None:
        """Make the release in `metadata` live: one number changes, and with a new fingerprint the alias moves."""

        def publish() -> None:
            self._client.update_collection(collection, metadata=metadata)
            aliases = self._client.get_aliases().aliases
            held = next((a.collection_name for a in aliases if a.alias_name == self.alias), None)
            if held == collection:
                return
            create = models.CreateAliasOperation(
                create_alias=models.CreateAlias(collection_name=collection, alias_name=self.alias)
            )
            delete = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=self.alias))
            self._client.update_collection_aliases([delete, create] if held else [create])

        self._call(publish)

    def _call(self, call: Callable[[], _T]) -> _T:
        return asked(self._url, call)


def asked(url: str, call: Callable[[], _T]) -> _T:
    """What a call to the vector store at `url` gives. Raises VectorStoreUnavailable where it fails."""
    try:
        return call()
    except (ApiException, ResponseHandlingException, httpx.HTTPError) as error:
        raise VectorStoreUnavailable(
            f"The vector store at QDRANT_URL={url} did not do what was asked: {reason(error)}"
        ) from error


def live_from(metadata: Mapping[str, Any]) -> Live | None:
    """What a collection's metadata says is live, None where it says nothing of it."""
    if "live_release" not in metadata:
        return None
    return Live(str(metadata["collection"]), int(metadata["live_release"]))


def release_filter(release: int) -> models.Filter:
    """The passages of a release: added in it or before, and not removed by it."""
    return models.Filter(
        must=[
            models.FieldCondition(key="added_in", range=models.Range(lte=release)),
            models.FieldCondition(key="removed_in", range=models.Range(gt=release)),
        ]
    )


def reason(error: Exception) -> str:
    """The last line of what the client says went wrong: the answer itself, or the connection's fault."""
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
