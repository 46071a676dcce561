"""What the vector store has of a release, in words that need no client of it: a point, the live release, and that the
store cannot be reached. Whoever only has to know these does not load `qdrant_client`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uuid import UUID

    from knowledge.models.lexical import SparseVector

CURRENT = 2147483647  # `removed_in` of what has not been removed
DENSE = "dense"
LEXICAL = "lexical"


class VectorStoreUnavailable(RuntimeError):
    """The vector store cannot be reached or refused a call. One sentence that names QDRANT_URL."""


@dataclass(frozen=True, slots=True)
class Live:
    """What the vector store says is live: read from the collection's metadata through the alias."""

    collection: str
    release: int


@dataclass(frozen=True, slots=True)
class Point:
    id: UUID
    dense: Sequence[float]
    lexical: SparseVector
    payload: dict[str, Any]
