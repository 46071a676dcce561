"""How sure it is that a passage answers a question: the number behind an honest "I don't know"."""

from __future__ import annotations

from collections.abc import Sequence

from knowledge.lexical import tokenize
from knowledge.lexicon import Lexicon


class Question:
    """A question's tokens and what each is worth in this corpus."""

    def __init__(self, tokens: Sequence[str], lexicon: Lexicon) -> None:
        distinct = list(dict.fromkeys(tokens))
        self._worth = dict(zip(distinct, lexicon.idf(distinct), strict=True))

    def confidence(self, passage: str, cosine: float | None) -> float:
        """0 to 1: the share of the question's worth that the passage covers, helped by the dense half's cosine."""
        total = sum(self._worth.values())
        if total <= 0:
            return 0.0
        has = set(tokenize(passage))
        covered = sum(worth for token, worth in self._worth.items() if token in has) / total
        return max(0.0, min(1.0, 0.7 * covered + 0.3 * max(0.0, cosine or 0.0)))
