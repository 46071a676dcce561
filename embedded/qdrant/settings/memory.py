"""Where a part of a collection is kept: on disk, in the page cache, or in memory."""

from typing import Any, Literal

import qdrant_edge as edge

from embedded.qdrant.errors import invalid

Memory = Literal["cold", "cached", "pinned"]

MEMORY = {"cold": edge.Memory.Cold, "cached": edge.Memory.Cached, "pinned": edge.Memory.Pinned}


def refuse_pinned(memory: Any, what: str) -> None:
    """Raise ApiError (422) if `memory` is "pinned": vectors and payload are kept in mapped files alone."""
    if memory == "pinned":
        raise invalid(f"memory: `pinned` memory placement is not supported for {what}")
