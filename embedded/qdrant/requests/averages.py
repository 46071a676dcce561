"""The vector that a recommendation by averages searches with."""

from typing import Any

import numpy as np
import qdrant_edge as edge

from embedded.qdrant.errors import bad_request
from embedded.qdrant.settings.validate import EngineVector, SparseObject


def recommended(positives: list[Any], negatives: list[Any]) -> EngineVector | SparseObject:
    """The mean of the good examples, as far again away from the mean of the bad ones.

    That is positive + positive - negative, in Qdrant's own words. Multivectors have no mean: their rows are put
    together, those of bad examples with the sign changed. All examples are of one vector name, so of one kind.
    """
    if not positives:
        raise bad_request("Positive vectors should not be empty with `average` strategy")
    if isinstance(positives[0], edge.SparseVector):
        return _sparse(positives, negatives)
    if positives[0] and isinstance(positives[0][0], list):
        rows = [row for example in positives for row in example]
        return rows + [[-value for value in row] for example in negatives for row in example]
    good = _mean(positives)
    # What overflows becomes infinite, as on a server.
    with np.errstate(all="ignore"):
        return (good + good - _mean(negatives) if negatives else good).tolist()


def _mean(vectors: list[Any]) -> Any:
    # In the engine's 32-bit numbers, one after the other, so that the scores are the server's.
    with np.errstate(all="ignore"):
        total = np.zeros(len(vectors[0]), np.float32)
        for vector in vectors:
            total += np.asarray(vector, np.float32)
        return total / np.float32(len(vectors))


def _sparse(positives: list[edge.SparseVector], negatives: list[edge.SparseVector]) -> SparseObject:
    good, bad = _sparse_mean(positives), _sparse_mean(negatives)
    indices = sorted(good.keys() | bad.keys())
    return SparseObject(indices, [2 * good.get(i, 0.0) - bad.get(i, 0.0) if bad else good[i] for i in indices])


def _sparse_mean(vectors: list[edge.SparseVector]) -> dict[int, float]:
    sums: dict[int, float] = {}
    for vector in vectors:
        for index, value in zip(vector.indices, vector.values, strict=True):
            sums[index] = sums.get(index, 0.0) + value
    return {index: value / len(vectors) for index, value in sums.items()}
