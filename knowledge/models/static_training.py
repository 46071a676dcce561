"""Training of the static model: contrastive, on pairs cut from the corpus' own passages.

A sentence of a passage must be nearest to the rest of its own passage among all passages of the batch (the inverse
cloze task: Lee et al., ACL 2019). No labels, no download.

Numpy and scipy do it, not torch: the gradient of a weighted sum is one sparse product, Adam runs over the rows that a
batch touches, and neither the pipeline nor the chat has to load torch (seconds, 400 MB) for its default model.
sentence-transformers' trainer would need `accelerate` and `datasets` besides.
"""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from knowledge.models.static_embedding import DIMENSIONS, KNOWN, SHARED, StaticModel, features, rows_of, saturated

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ROWS_AT_ONCE = 2048  # small enough to stay in the processor's cache
_SENTENCE = re.compile(r"[^。！？!?；;\n]+[。！？!?；;\n]*")


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how hard to train. Larger batches were better than more steps, in the same time."""

    batch: int = 1024
    steps_least: int = 40
    steps_most: int = 160
    epochs: int = 8  # between the two
    rate: float = 0.02
    temperature: float = 0.1
    kept: float = 0.5  # share of a passage's tokens that a step sees
    seed: int = 0


def sentences(text: str) -> list[str]:
    """The sentences and lines of a text."""
    return _SENTENCE.findall(text)


def train(
    passages: Sequence[str], *, plan: Plan | None = None, progress: Callable[[str], None] = lambda note: None
) -> StaticModel:
    """Train on passages (what is indexed of each), in the order given. The same input gives the same model.

    A corpus too small to train on (one passage, say) gives the untrained weights, whose cosine is close to that of
    TF-IDF.
    """
    import numpy as np

    plan = plan or Plan()
    split: list[list[NDArray[Any]]] = [
        [np.array(features(part), dtype=np.uint32) for part in sentences(text)] for text in passages
    ]
    frequencies: Counter[int] = Counter()
    for parts in split:
        frequencies.update({token for part in parts for token in part.tolist()})
    order = sorted(frequencies, key=lambda token: (-frequencies[token], token))
    known = np.array(sorted(order[:KNOWN]), dtype=np.uint32)
    rest = order[KNOWN:]
    shared = min(SHARED, len(rest))
    df = np.array(
        [frequencies[int(token)] for token in known] + [1 + len(rest) // max(shared, 1)] * shared, dtype=np.float32
    )
    idf = np.log1p(np.float32(len(passages)) / df)
    for parts in split:  # in place: all tokens twice would be the peak of memory
        parts[:] = [rows_of(part, known, shared)[0].astype(np.int32) for part in parts if len(part)]
    trainer = _Trainer([parts for parts in split if parts], idf, plan)
    trainer.run(progress)
    return StaticModel.rounded(known, trainer.weights * idf[:, None])


class _Trainer:
    """Adam over the rows of an embedding table, on pairs (a sentence, the rest of its passage)."""

    def __init__(self, passages: list[list[NDArray[np.int32]]], idf: NDArray[np.float32], plan: Plan) -> None:
        import numpy as np

        self._random = np.random.default_rng(plan.seed)
        self._passages = passages
        self._idf = idf
        self._plan = plan
        size = (len(idf), DIMENSIONS)
        self.weights = self._random.standard_normal(size, dtype=np.float32) / np.float32(np.sqrt(DIMENSIONS))
        self._mean = np.zeros(size, dtype=np.float32)
        self._square = np.zeros(size, dtype=np.float32)

    def run(self, progress: Callable[[str], None]) -> None:
        plan = self._plan
        batch = min(plan.batch, len(self._passages))
        if batch < 2:
            return
        steps = min(plan.steps_most, plan.steps_least + plan.epochs * len(self._passages) // plan.batch)
        order: list[int] = []
        with ThreadPoolExecutor(2) as threads:
            for step in range(steps):
                progress(f"training the retrieval model: {step * 100 // steps} %")
                if len(order) < batch:
                    order = self._random.permutation(len(self._passages)).tolist()
                chosen, order = order[:batch], order[batch:]
                pairs = [pair for number in chosen if (pair := self._pair(self._passages[number])) is not None]
                if len(pairs) > 1:
                    self._step(threads, pairs, step + 1, plan.rate * (1 - 0.95 * step / steps))

    def _pair(self, parts: list[NDArray[np.int32]]) -> tuple[NDArray[np.int32], NDArray[np.int32]] | None:
        import numpy as np

        random = self._random
        if len(parts) == 1:
            mask = random.random(len(parts[0])) < 0.5
            question, rest = parts[0][mask], parts[0][~mask]
        else:
            number = int(random.integers(len(parts)))
            question = parts[number]
            rest = np.concatenate(parts if random.random() < 0.1 else parts[:number] + parts[number + 1 :])
            if len(question) > 6 and random.random() < 0.5:
                question = question[random.random(len(question)) < 0.6]
            if len(rest) > 40:
                rest = rest[random.random(len(rest)) < self._plan.kept]
        return (question, rest) if len(question) and len(rest) else None

    def _step(
        self,
        threads: ThreadPoolExecutor,
        pairs: list[tuple[NDArray[np.int32], NDArray[np.int32]]],
        step: int,
        rate: float,
    ) -> None:
        import numpy as np

        number = len(pairs)
        used, x = self._features([pair[0] for pair in pairs] + [pair[1] for pair in pairs])
        half = DIMENSIONS // 2
        columns = [slice(0, half), slice(half, DIMENSIONS)]

        def forwards(part: slice) -> NDArray[np.float32]:
            return x @ self.weights[used, part]

        summed = np.concatenate(list(threads.map(forwards, columns)), axis=1)
        length = np.maximum(np.linalg.norm(summed, axis=1, keepdims=True), 1e-6)
        unit = summed / length
        left, right = unit[:number], unit[number:]
        cosines = left @ right.T / np.float32(self._plan.temperature)
        wrong = (_softmax(cosines, 1) + _softmax(cosines, 0)) / 2 - np.eye(number, dtype=np.float32)
        wrong /= np.float32(number * self._plan.temperature)
        towards = np.concatenate([wrong @ right, wrong.T @ left])
        upwards = (towards - (towards * unit).sum(1, keepdims=True) * unit) / length
        transposed = x.T.tocsr()

        def backwards(part: slice) -> NDArray[np.float32]:
            return transposed @ upwards[:, part].copy()

        gradient = np.concatenate(list(threads.map(backwards, columns)), axis=1)

        def move(start: int) -> None:
            rows = slice(start, start + _ROWS_AT_ONCE)
            self._adam(used[rows], gradient[rows], step, rate)

        list(threads.map(move, range(0, len(used), _ROWS_AT_ONCE)))

    def _adam(self, used: NDArray[np.int32], gradient: NDArray[np.float32], step: int, rate: float) -> None:
        """Adam (Kingma and Ba, 2015) on some rows; a row that a step does not touch is left as it is."""
        import numpy as np

        mean, square = self._mean[used], self._square[used]
        mean += np.float32(0.1) * (gradient - mean)
        square += np.float32(0.01) * (gradient * gradient - square)
        self._mean[used], self._square[used] = mean, square
        np.sqrt(square, out=square)
        square *= np.float32(1 / (1 - 0.99**step) ** 0.5)
        square += np.float32(1e-8)
        mean *= np.float32(rate / (1 - 0.9**step))
        mean /= square
        self.weights[used] -= mean

    def _features(self, texts: list[NDArray[np.int32]]) -> tuple[NDArray[np.int32], Any]:
        """The rows that are used, and a sparse matrix [texts, used] of saturated frequencies times IDF."""
        import numpy as np

        sparse: Any = importlib.import_module("scipy.sparse")  # has no types

        which = np.repeat(np.arange(len(texts), dtype=np.int32), [len(text) for text in texts])
        used, column = np.unique(np.concatenate(texts), return_inverse=True)
        ones = np.ones(len(which), dtype=np.float32)
        x: Any = sparse.csr_matrix((ones, (which, column.astype(np.int32))), shape=(len(texts), len(used)))
        x.sum_duplicates()
        x.data = saturated(x.data) * self._idf[used][x.indices]
        return used, x


def _softmax(scores: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    import numpy as np

    exponent = np.exp(scores - scores.max(axis, keepdims=True))
    return exponent / exponent.sum(axis, keepdims=True)
