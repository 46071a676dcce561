"""How many passages of the corpus have each token: what a question's words are worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from knowledge.lexical import index_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Document frequencies: `indices` (uint32, ascending) and `counts` (uint32), and the number of `passages`."""

    indices: NDArray[np.uint32]
    counts: NDArray[np.uint32]
    passages: int

    @staticmethod
    def of(passages: Iterable[list[str]]) -> Lexicon:
        """Count the tokens of passages."""
        import numpy as np

        frequencies: Counter[int] = Counter()
        number = 0
        for tokens in passages:
            number += 1
            frequencies.update({index_of(token) for token in set(tokens)})
        indices = np.array(sorted(frequencies), dtype=np.uint32)
        counts = np.array([frequencies[int(index)] for index in indices], dtype=np.uint32)
        return Lexicon(indices, counts, number)

    def idf(self, tokens: Iterable[str]) -> list[float]:
        """Of each token 0 (in every passage) to 1 (in none): log(1 + N / df) on that scale."""
        import numpy as np

        wanted = np.array([index_of(token) for token in tokens], dtype=np.uint32)
        if not len(wanted):
            return []
        counts = np.zeros(len(wanted))
        if len(self.indices):
            at = np.minimum(np.searchsorted(self.indices, wanted), len(self.indices) - 1)
            counts = np.where(self.indices[at] == wanted, self.counts[at], 0).astype(float)
        rarest = np.log1p(self.passages / 0.5)
        scaled = np.log1p(self.passages / np.maximum(counts, 0.5))
        return ((scaled - np.log(2)) / max(rarest - np.log(2), 1e-9)).clip(0, 1).tolist()

    def save(self, path: Path) -> None:
        """Write it: the number of passages, then pairs of index and count, as little-endian uint32."""
        import numpy as np

        head = np.array([[self.passages, len(self.indices)]], dtype="<u4")
        path.write_bytes(
            np.concatenate([head, np.stack([self.indices, self.counts], axis=1)]).astype("<u4").tobytes()
        )

    @staticmethod
    def load(path: Path) -> Lexicon:
        """Read what `save` wrote."""
        import numpy as np

        table = np.frombuffer(path.read_bytes(), dtype="<u4").reshape(-1, 2)
        return Lexicon(table[1:, 0].astype(np.uint32), table[1:, 1].astype(np.uint32), int(table[0, 0]))
