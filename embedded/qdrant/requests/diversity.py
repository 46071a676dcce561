"""Maximal marginal relevance for sparse vectors, which the engine has for dense ones only."""

from dataclasses import dataclass
from typing import Any

import qdrant_edge as edge


@dataclass(frozen=True, slots=True)
class Diversify:
    """How points that are near to a sparse vector are picked so that they differ from each other.

    `relevance` weighs the score against the likeness to what was picked before (Carbonell and Goldstein 1998,
    their lambda); `candidates` is how many of the nearest points are looked at.
    """

    name: str
    relevance: float
    candidates: int

    def picked(self, points: list[edge.ScoredPoint], limit: int) -> list[edge.ScoredPoint]:
        """The points in the order in which they are picked. They need their vectors."""
        vectors = [_weights(point.vector, self.name) for point in points]
        likeness = [float("-inf")] * len(points)
        left, order = list(range(len(points))), list[int]()
        while left and len(order) < limit:
            best = max(left, key=lambda i: self._value(points[i].score, likeness[i] if order else 0.0))
            left.remove(best)
            order.append(best)
            for i in left:
                likeness[i] = max(likeness[i], _dot(vectors[i], vectors[best]))
        return [points[i] for i in order]

    def _value(self, score: float, likeness: float) -> float:
        return self.relevance * score - (1 - self.relevance) * likeness


def _weights(vector: Any, name: str) -> dict[int, float]:
    found = vector[name]
    return dict(zip(found.indices, found.values, strict=True))


def _dot(left: dict[int, float], right: dict[int, float]) -> float:
    return sum(value * right[index] for index, value in left.items() if index in right)
