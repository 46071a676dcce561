"""Points of the record with their vectors, written into the vector store: PostgreSQL has all that they are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, LiteralString
from uuid import UUID

from knowledge.database import Connection
from knowledge.models import vectors
from knowledge.models.lexical import tokenize
from knowledge.releases.vector_store import Point

if TYPE_CHECKING:
    from knowledge.models.retrieval_model import RetrievalModel
    from knowledge.releases.collection import Collections

BATCH = 512


def alive(connection: Connection, collection: str, number: int) -> int:
    """Passages that a release has by the record."""
    row = connection.execute(
        "SELECT count(*) FROM knowledge.points WHERE collection = %s AND added_in <= %s AND removed_in > %s",
        (collection, number, number),
    ).fetchone()
    return int(row[0]) if row else 0


def same_points(connection: Connection, collections: Collections, collection: str, number: int) -> bool:
    """Whether a release has the very points in the vector store that it has by the record.

    A count is not enough after a restore: a number that was given again may have as many points, and others.
    """
    query = "SELECT id FROM knowledge.points WHERE collection = %s AND added_in <= %s AND removed_in > %s"
    with connection.cursor() as cursor:
        recorded = _digest(row[0] for row in cursor.stream(query, (collection, number, number)))
    return recorded == _digest(collections.ids(collection, number))


def _digest(ids: Iterable[UUID]) -> tuple[int, int]:
    """How many, and their sum: ids are random, so no other set of points has it, and nothing has to be kept."""
    count = total = 0
    for one in ids:
        count, total = count + 1, total + one.int
    return count, total


def refill(
    connection: Connection, collections: Collections, collection: str, model: RetrievalModel, *, target: str = ""
) -> int:
    """Create a collection and write the record's points of `collection` into it, under the name `target` if one is given."""
    collections.create(target or collection, model.embedder.dimensions, {})
    return fill(connection, collections, collection, model, target=target)


def fill(
    connection: Connection, collections: Collections, collection: str, model: RetrievalModel, *, target: str = ""
) -> int:
    """Write the record's points of a collection; gives how many."""
    return sum(
        collections.upsert(target or collection, points)
        for points in points_of(connection, model, "t.collection = %s", (collection,))
    )


def points_of(
    connection: Connection, model: RetrievalModel, condition: LiteralString, parameters: Sequence[Any]
) -> Iterator[list[Point]]:
    """Points of the record that fulfil a condition, with their vectors, in batches."""
    ids: list[UUID] = [
        row[0]
        for row in connection.execute(
            f"SELECT t.id FROM knowledge.points t WHERE {condition} ORDER BY t.passage_id",
            parameters,
        )
    ]
    for start in range(0, len(ids), BATCH):
        rows = connection.execute(
            """
            SELECT t.id, t.document_id, t.added_in, t.removed_in, d.uri, d.source, d.path, c.title, p.heading, p.text,
                   p.start_offset, p.end_offset, p.indexed, p.indexed_sha256
            FROM knowledge.points t
            JOIN knowledge.documents d ON d.id = t.document_id
            JOIN knowledge.passages p ON p.id = t.passage_id
            JOIN knowledge.contents c ON c.id = p.content_id
            WHERE t.id = ANY(%s)
            """,
            (ids[start : start + BATCH],),
        ).fetchall()
        yield _with_vectors(connection, model, rows)


def _with_vectors(connection: Connection, model: RetrievalModel, rows: Sequence[Any]) -> list[Point]:
    kept = vectors.read(connection, model.embedder.fingerprint, [bytes(row[13]) for row in rows])
    missing = [row for row in rows if bytes(row[13]) not in kept]
    if missing:  # pruned, or the database was restored without them: compute them again
        computed = model.embedder.embed_passages([row[12] for row in missing])
        vectors.store(connection, model.embedder.fingerprint, [bytes(row[13]) for row in missing], computed)
        kept.update({bytes(row[13]): vector for row, vector in zip(missing, computed, strict=True)})
    return [
        Point(
            id=row[0],
            dense=kept[bytes(row[13])].tolist(),
            lexical=model.bm25.passage(tokenize(row[12])),
            payload={
                "passage_id": str(row[0]),
                "document_id": str(row[1]),
                "added_in": row[2],
                "removed_in": row[3],
                "uri": row[4],
                "source": row[5],
                "path": row[6],
                "title": row[7],
                "heading": row[8],
                "text": row[9],
                "start": row[10],
                "end": row[11],
            },
        )
        for row in rows
    ]
