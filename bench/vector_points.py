"""Points and questions that look like passages: clustered dense vectors and words that are Zipf-distributed. Seeded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIZE = 384
TERMS = 40
LIMIT = 10
_CHUNK = 5_000
_CLUSTERS = 200
_SPREAD = 0.7  # the length of what sets a point apart from its cluster's centre, which has length 1
_VOCABULARY = 30_000
_QUERY_TERMS = 10


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some thousand points; `terms` and `weights` have TERMS columns, the terms of a row ascending."""

    first: int
    dense: NDArray[np.float32]
    terms: NDArray[np.int64]
    weights: NDArray[np.float32]

    def points(self) -> Iterator[tuple[int, dict[str, Any], dict[str, Any]]]:
        """Each point's id, vectors and payload, as the REST API has them."""
        for row in range(len(self.dense)):
            number = self.first + row
            sparse = {"indices": self.terms[row].tolist(), "values": self.weights[row].tolist()}
            payload = {"document_id": f"document-{number // 20}", "added_in": 1, "text": f"passage {number} " * 20}
            yield number, {"dense": self.dense[row].tolist(), "lexical": sparse}, payload


def chunks(count: int) -> Iterator[Chunk]:
    """`count` points, a bounded number in memory; the first ones are the same whatever the count."""
    centres = _unit(np.random.default_rng(1).normal(size=(_CLUSTERS, SIZE)))
    frequency = 1 / np.arange(1, _VOCABULARY + 1)
    cumulated = np.cumsum(frequency / frequency.sum())
    for first in range(0, count, _CHUNK):
        chance = np.random.default_rng([2, first])
        noise = chance.normal(scale=_SPREAD / np.sqrt(SIZE), size=(_CHUNK, SIZE))
        dense = _unit(centres[chance.integers(_CLUSTERS, size=_CHUNK)] + noise).astype(np.float32)
        drawn = np.searchsorted(cumulated[:-1], chance.random((_CHUNK, 8 * TERMS)))
        terms = np.stack([_distinct(row) for row in drawn])
        weights = chance.uniform(0.5, 2.5, size=(_CHUNK, TERMS)).astype(np.float32)
        here = min(_CHUNK, count - first)
        yield Chunk(first, dense[:here], terms[:here], weights[:here])


def queries(count: int) -> list[dict[str, Any]]:
    """Bodies of hybrid queries: a vector near a point, some of its words, both fused by rank."""
    chance = np.random.default_rng(3)
    chunk = next(chunks(_CHUNK))
    bodies: list[dict[str, Any]] = []
    for row in chance.integers(len(chunk.dense), size=count):
        vector = _unit(chunk.dense[row] + chance.normal(scale=0.3 / np.sqrt(SIZE), size=SIZE))
        words = np.sort(chance.choice(TERMS, _QUERY_TERMS, replace=False))
        sparse = {"indices": chunk.terms[row][words].tolist(), "values": [1.0] * _QUERY_TERMS}
        prefetch = [
            {"query": vector.tolist(), "using": "dense", "limit": 50},
            {"query": sparse, "using": "lexical", "limit": 50},
        ]
        bodies.append({"prefetch": prefetch, "query": {"fusion": "rrf"}, "limit": LIMIT, "with_payload": True})
    return bodies


def _unit(vectors: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _distinct(row: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first TERMS different terms of a row, ascending; rare ones are added should they not suffice."""
    terms, seen_at = np.unique(row, return_index=True)
    chosen = np.sort(terms[np.argsort(seen_at)[:TERMS]])
    missing = TERMS - len(chosen)
    return np.concatenate([chosen, np.arange(_VOCABULARY, _VOCABULARY + missing)])
