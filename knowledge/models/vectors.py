"""Dense vectors of passages, each computed once for its text and embedder, and kept in PostgreSQL.

So an edited line costs its own passage, a lost vector store is filled again without embedding, and what was computed
before a crash counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import psycopg

from knowledge.database import Connection

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from knowledge.models.embedding import Embedder

# Texts handed to the embedder at once. It sorts them by length, so that batches have little padding; the results of
# each window are committed, so a crash loses at most this much work.
_WINDOW = 1024


@dataclass(frozen=True, slots=True)
class Embedding:
    """Texts embedded now, texts whose vector was there already, and the seconds that embedding took."""

    embedded: int
    reused: int
    seconds: float


def embed_new(connection: Connection, embedder: Embedder, rules: str, progress: Callable[[str], None]) -> Embedding:
    """Compute the vectors that passages of the documents at hand lack."""
    texts = connection.execute(
        """
        SELECT count(DISTINCT p.indexed_sha256) FROM knowledge.documents d
        JOIN knowledge.passages p ON p.content_id = d.content_id AND p.rules = %s
        """,
        (rules,),
    ).fetchone()
    waiting = [
        row[0]
        for row in connection.execute(
            """
            SELECT DISTINCT p.indexed_sha256 FROM knowledge.documents d
            JOIN knowledge.passages p ON p.content_id = d.content_id AND p.rules = %s
            WHERE NOT EXISTS (SELECT FROM knowledge.vectors v
                              WHERE v.embedder = %s AND v.indexed_sha256 = p.indexed_sha256)
            """,
            (rules, embedder.fingerprint),
        )
    ]
    started = perf_counter()
    for start in range(0, len(waiting), _WINDOW):
        hashes = waiting[start : start + _WINDOW]
        _embed(connection, embedder, hashes)
        done = start + len(hashes)
        if len(waiting) > _WINDOW:
            rate = done / max(perf_counter() - started, 1e-9)
            progress(f"{done} of {len(waiting)} passages embedded, {rate:.0f} a second")
    total = texts[0] if texts else 0
    return Embedding(len(waiting), total - len(waiting), perf_counter() - started)


def _embed(connection: Connection, embedder: Embedder, hashes: Sequence[bytes]) -> None:
    rows = connection.execute(
        "SELECT DISTINCT ON (indexed_sha256) indexed_sha256, indexed FROM knowledge.passages WHERE indexed_sha256 = ANY(%s)",
        (list(hashes),),
    ).fetchall()
    vectors = embedder.embed_passages([row[1] for row in rows])
    store(connection, embedder.fingerprint, [row[0] for row in rows], vectors)


def store(connection: Connection, embedder: str, hashes: Sequence[bytes], vectors: NDArray[np.float32]) -> None:
    """Keep vectors [n, dimensions] of the texts with these hashes; one that is there already stays."""
    little = vectors.astype("<f4", copy=False)
    with connection.transaction():
        connection.execute("CREATE TEMP TABLE fresh (h bytea, d bytea) ON COMMIT DROP")
        with connection.cursor().copy("COPY fresh (h, d) FROM STDIN WITH (FORMAT BINARY)") as copy:
            copy.set_types(["bytea", "bytea"])
            for text_hash, vector in zip(hashes, little, strict=True):
                copy.write_row((text_hash, vector.tobytes()))
        connection.execute(
            "INSERT INTO knowledge.vectors (embedder, indexed_sha256, dense) SELECT %s, h, d FROM fresh ON CONFLICT DO NOTHING",
            (embedder,),
        )


def read(connection: Connection, embedder: str, hashes: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
    """The kept vectors of these texts, by hash."""
    import numpy as np

    with psycopg.Cursor(connection) as cursor:
        rows = cursor.execute(
            "SELECT indexed_sha256, dense FROM knowledge.vectors WHERE embedder = %s AND indexed_sha256 = ANY(%s)",
            (embedder, list(hashes)),
            binary=True,
        )
        return {bytes(row[0]): np.frombuffer(row[1], dtype="<f4") for row in rows}


def indexed_texts(connection: Connection, rules: str) -> Iterator[str]:
    """What is embedded of every passage at hand, each text once, in a stable order."""
    with connection.transaction(), connection.cursor(name="indexed_texts") as cursor:
        cursor.itersize = 500
        cursor.execute(
            """
            SELECT indexed FROM (SELECT DISTINCT ON (p.indexed_sha256) p.indexed_sha256, p.indexed
            FROM knowledge.documents d JOIN knowledge.passages p ON p.content_id = d.content_id AND p.rules = %s
            ORDER BY p.indexed_sha256) texts
            """,
            (rules,),
        )
        for row in cursor:
            yield row[0]
