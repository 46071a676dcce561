"""Retrieval quality on a golden set: questions with the document that answers each."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from knowledge.models.fusion import Judged, first_rank


class GoldenSetError(ValueError):
    """A golden set cannot be read. One sentence that names the file, the line and KNOWLEDGE_GOLDEN_SET."""


@dataclass(frozen=True, slots=True)
class GoldenQuestion:
    """A question and the document that answers it: a uri (`source/path`) or the end of one (`path`)."""

    question: str
    document: str


@dataclass(frozen=True, slots=True)
class Quality:
    """Shares of questions, 0 to 1: the document is the first, among the first five or ten; and two means over ranks."""

    questions: int
    recall_1: float
    recall_5: float
    recall_10: float
    mrr_10: float
    ndcg_10: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def load_golden(path: Path) -> list[GoldenQuestion]:
    """The questions of a JSON-lines file with `question` and `document`; other keys are left alone.

    Raises GoldenSetError.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise GoldenSetError(f"KNOWLEDGE_GOLDEN_SET={path}: the file cannot be read ({error}).") from None
    return [_question(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _question(path: Path, number: int, line: str) -> GoldenQuestion:
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise GoldenSetError(f"KNOWLEDGE_GOLDEN_SET={path}: line {number} is not JSON ({error}).") from None
    values = cast("dict[str, Any]", row) if isinstance(row, dict) else {}
    for key in ("question", "document"):
        if not isinstance(values.get(key), str) or not values[key].strip():
            raise GoldenSetError(f"KNOWLEDGE_GOLDEN_SET={path}: line {number} has no `{key}` that is a text.")
    return GoldenQuestion(values["question"].strip(), values["document"].strip())


def golden_hash(questions: Iterable[GoldenQuestion]) -> str:
    """Names a golden set: measurements with the same hash can be compared."""
    rows = sorted(f"{item.question}\0{item.document}" for item in questions)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]


def answers(document: str, uri: str) -> bool:
    """Whether a golden `document` means the document with this uri."""
    return uri == document or uri.endswith("/" + document)


def quality(ranks: Sequence[int | None]) -> Quality:
    """From the place of the wanted document for each question, 1 is best, None is not found. One document is wanted,
    so its discounted gain is 1 / log2(1 + rank) (Järvelin and Kekäläinen, 2002)."""
    found = [rank for rank in ranks if rank is not None and rank <= 10]
    number = len(ranks)

    def share(values: Iterable[float]) -> float:
        return sum(values) / number if number else 0.0

    return Quality(
        number,
        share(1.0 for rank in found if rank == 1),
        share(1.0 for rank in found if rank <= 5),
        share(1.0 for _ in found),
        share(1 / rank for rank in found),
        share(1 / math.log2(1 + rank) for rank in found),
    )


def halves(questions: Sequence[Judged], weight: float) -> dict[str, Quality]:
    """The quality of the `lexical` half alone, the `dense` half alone, and the `hybrid` with this weight."""
    return {
        "lexical": quality([first_rank(replace(q, dense={}), 0.0) for q in questions]),
        "dense": quality([first_rank(replace(q, lexical={}, exact=False), 1.0) for q in questions]),
        "hybrid": quality([first_rank(q, weight) for q in questions]),
    }
