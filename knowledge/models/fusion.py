"""One ranking of two: a weighted sum of the lexical and the dense half's scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

DEFAULT_WEIGHT = 0.3  # of the dense half, for a model that knows the corpus' language
PACKAGED_WEIGHT = 0.05  # for the packaged English MiniLM


def fuse(lexical: Mapping[str, float], dense: Mapping[str, float], weight: float) -> list[tuple[str, float]]:
    """Passages of both lists with their fused score, best first; `weight` is the dense half's, 0 to 1.

    Each half's scores are divided by its best for the question, and what a half did not bring has 0 there. Measured
    against dividing by ranges, raw cosines, and the true score of what one half did not bring: all within a point.
    Equal scores keep the lexical order.
    """
    best, nearest = max(lexical.values(), default=0.0), max(dense.values(), default=0.0)
    fused: dict[str, float] = {}
    for name in (*lexical, *dense):
        words = lexical.get(name, 0.0) / best if best > 0 else 0.0
        near = max(0.0, dense.get(name, 0.0)) / nearest if nearest > 0 else 0.0
        fused[name] = (1 - weight) * words + weight * near
    order = {name: place for place, name in enumerate(fused)}
    return sorted(fused.items(), key=lambda item: (-item[1], order[item[0]]))


@dataclass(frozen=True, slots=True)
class Judged:
    """What both halves brought for a golden question, the document of each passage, and the documents wanted."""

    lexical: Mapping[str, float]
    dense: Mapping[str, float]
    documents: Mapping[str, str]
    wanted: frozenset[str]
    exact: bool = False  # the question is an identifier: `knowledge.models.questions.is_identifier`


def first_rank(judged: Judged, weight: float) -> int | None:
    """The place of the first wanted document (1 is best) among the distinct documents, None when it was not found."""
    seen: dict[str, None] = {}
    for name, _ in fuse(judged.lexical, judged.dense, 0.0 if judged.exact else weight):
        document = judged.documents[name]
        if document in judged.wanted:
            return len(seen) + 1
        seen[document] = None
    return None


def fit_weight(questions: Sequence[Judged], default: float) -> float:
    """The weight that finds the wanted documents best, near `default` where little is known.

    Best is the mean of recall@1, @5, @10 and the mean reciprocal rank; moving away from the default must gain up to
    one question, so that a small set moves it little.
    """
    if not questions:
        return default
    grid = sorted({round(step / 20, 2) for step in range(21)} | {default})

    def quality(weight: float) -> float:
        ranks = [first_rank(judged, weight) for judged in questions]
        found = [rank for rank in ranks if rank is not None and rank <= 10]
        gains = sum((rank == 1) + (rank <= 5) + 1 + 1 / rank for rank in found) / 4
        return gains - (weight - default) ** 2

    return max(grid, key=lambda weight: (round(quality(weight), 9), -abs(weight - default)))
