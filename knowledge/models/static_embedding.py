"""The dense model that is made from the corpus itself: a static embedding, trained in seconds, without labels.

A text's vector is the weighted sum of its tokens' vectors (words, pairs of characters, characters, names). They start
as random directions weighted by IDF, and `knowledge.models.static_training` moves them so that a sentence comes near to the
passage that it is from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from knowledge.models.lexical import characters, index_of, tokenize
from knowledge.models.questions import LIGHT, content, question_tokens

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RULES = "1"
"""Raise it when the same passages give another model: it is part of the fingerprint."""

DIMENSIONS = 256
# The most frequent tokens have a row each, and the others share rows by hash: rare names tell passages apart, and
# leaving them out cost 12 points of recall@1 on CMRC2018. 31 MB at 8 bits.
KNOWN = 60_000
SHARED = 60_000
_SATURATION = 1.0


@dataclass(frozen=True, slots=True)
class StaticModel:
    """`known` (uint32, ascending): hashes of tokens with a row of their own. `rows` (int8 [known + shared, d]) times
    `scale` (float32 [known + shared]) are the vectors, IDF included; the `shared` rows at the end are for the rest."""

    known: NDArray[np.uint32]
    rows: NDArray[np.int8]
    scale: NDArray[np.float32]

    @property
    def dimensions(self) -> int:
        return int(self.rows.shape[1])

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of passages, of unit length [n, d]; a text without a token is the zero vector."""
        import numpy as np

        out = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for number, text in enumerate(texts):
            counts = Counter(features(text))
            out[number] = self._sum(
                np.fromiter(counts, dtype=np.uint32, count=len(counts)),
                saturated(np.fromiter(counts.values(), dtype=np.float32, count=len(counts))),
            )
        return out

    def embed_question(self, question: str) -> NDArray[np.float32]:
        """A question's vector [d] of unit length: its function words count less, as in the lexical half."""
        import numpy as np

        weights = {index_of("_" + one): LIGHT for one in characters(question)}
        weights.update({index_of("_" + one): 1.0 for one in characters(content(question))})
        weights.update(
            {index_of(token): weight for token, weight in question_tokens(question).items() if token[0] != "="}
        )
        return self._sum(
            np.fromiter(weights, dtype=np.uint32, count=len(weights)),
            np.fromiter(weights.values(), dtype=np.float32, count=len(weights)),
        )

    def _sum(self, tokens: NDArray[np.uint32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
        import numpy as np

        at, found = self.places(tokens)
        vector = (weights[found] * self.scale[at]) @ self.rows[at].astype(np.float32)
        return (vector / max(float(np.linalg.norm(vector)), 1e-9)).astype(np.float32)

    def places(self, tokens: NDArray[np.uint32]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The rows of tokens that have one, and which have."""
        return rows_of(tokens, self.known, len(self.rows) - len(self.known))

    def save(self, folder: Path) -> None:
        """Write `known.npy`, `rows.npy` and `scale.npy`: the same bytes for the same model."""
        import numpy as np

        np.save(folder / "known.npy", self.known.astype("<u4"))
        np.save(folder / "rows.npy", self.rows)
        np.save(folder / "scale.npy", self.scale.astype("<f4"))

    @staticmethod
    def load(folder: Path) -> StaticModel:
        """Read what `save` wrote. Raises OSError or ValueError."""
        import numpy as np

        return StaticModel(*(np.load(folder / f"{name}.npy") for name in ("known", "rows", "scale")))

    @staticmethod
    def rounded(known: NDArray[np.uint32], rows: NDArray[np.float32]) -> StaticModel:
        """The model with these vectors, at 8 bits."""
        import numpy as np

        scale = np.maximum(np.abs(rows).max(axis=1), 1e-12).astype(np.float32) / np.float32(127)
        return StaticModel(known, np.rint(rows / scale[:, None]).astype(np.int8), scale)


def rows_of(
    tokens: NDArray[np.uint32], known: NDArray[np.uint32], shared: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The row of each token: its own, or with `shared` rows one by hash; and which tokens have one."""
    import numpy as np

    at = np.minimum(np.searchsorted(known, tokens), max(len(known) - 1, 0))
    own = known[at] == tokens if len(known) else np.zeros(len(tokens), dtype=np.bool_)
    if not shared:
        return at[own], own
    return np.where(own, at, len(known) + tokens.astype(np.int64) % shared), np.ones(len(tokens), dtype=np.bool_)


def features(text: str) -> list[int]:
    """The hashes of a text's tokens: the lexical half's (a word that is a pair of characters once), and characters."""
    return [index_of(token) for token in _tokens(text)]


def _tokens(text: str) -> Iterable[str]:
    yield from (token for token in tokenize(text) if token[0] != "=")
    yield from ("_" + one for one in characters(text))


def saturated(tf: NDArray[np.float32]) -> NDArray[np.float32]:
    """Term frequencies, saturated as in BM25 with k = 1."""
    import numpy as np

    return (tf * (1 + _SATURATION) / (tf + _SATURATION)).astype(np.float32)
