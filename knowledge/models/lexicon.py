"""How many passages of the corpus have each token: what a question's words are worth."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from knowledge.models.lexical import characters, index_of

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
    def of(passages: Iterable[Iterable[str]]) -> Lexicon:
        """Count the tokens of passages; `counted` says which."""
        import numpy as np

        frequencies: Counter[int] = Counter()
        number = 0
        for tokens in passages:
            number += 1
            frequencies.update({index_of(token) for token in tokens})
        indices = np.array(sorted(frequencies), dtype=np.uint32)
        counts = np.array([frequencies[int(index)] for index in indices], dtype=np.uint32)
        return Lexicon(indices, counts, number)

    @staticmethod
    def counted(text: str, tokens: Iterable[str]) -> set[str]:
        """What is counted of a passage: its tokens, and its Chinese characters."""
        return {*tokens, *("_" + one for one in characters(text))}

    def counts_of(self, tokens: Iterable[str]) -> list[int]:
        """How many passages have each token."""
        import numpy as np

        wanted = np.array([index_of(token) for token in tokens], dtype=np.uint32)
        if not len(wanted) or not len(self.indices):
            return [0] * len(wanted)
        at = np.minimum(np.searchsorted(self.indices, wanted), len(self.indices) - 1)
        return np.where(self.indices[at] == wanted, self.counts[at], 0).tolist()

    def letters_known(self, letters: Iterable[str]) -> list[bool]:
        """Whether some passage has each Chinese character."""
        return [count > 0 for count in self.counts_of("_" + letter for letter in letters)]

    def idf(self, tokens: Iterable[str]) -> list[float]:
        """Of each token 0 (in every passage) to 1 (in none): log(1 + N / df) on that scale."""
        least, most = math.log(2), math.log1p(self.passages / 0.5)
        scaled = [math.log1p(self.passages / max(count, 0.5)) for count in self.counts_of(tokens)]
        return [min(1.0, max(0.0, (value - least) / (most - least))) for value in scaled]

    def save(self, path: Path) -> None:
        """Write it: the number of passages, then pairs of index and count, as little-endian uint32."""
        import numpy as np

        head = np.array([[self.passages, len(self.indices)]], dtype="<u4")
        path.write_bytes(np.concatenate([head, np.stack([self.indices, self.counts], axis=1)]).astype("<u4").tobytes())

    @staticmethod
    def load(path: Path) -> Lexicon:
        """Read what `save` wrote."""
        import numpy as np

        table = np.frombuffer(path.read_bytes(), dtype="<u4").reshape(-1, 2)
        return Lexicon(table[1:, 0].astype(np.uint32), table[1:, 1].astype(np.uint32), int(table[0, 0]))
