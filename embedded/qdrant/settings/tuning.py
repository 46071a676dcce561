"""How graphs are built and segments kept: `hnsw_config`, `optimizers_config`, `wal_config`.

The serving process builds nothing by them: they are kept, shown, and given to the engine, which follows them
when the shard is optimised.
"""

from typing import Annotated, Any, Literal

import msgspec
import qdrant_edge as edge
from msgspec import Meta

from embedded.qdrant.settings.memory import MEMORY, Memory
from embedded.qdrant.settings.shapes import renamed, shaped, without_nulls

Object = dict[str, Any]

# What a Qdrant server prints, in the order in which it does, where nothing was given.
HNSW: Object = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000, "max_indexing_threads": 0}
OPTIMIZERS: Object = {
    "deleted_threshold": 0.2,
    "vacuum_min_vector_number": 1000,
    "default_segment_number": 0,
    "max_segment_size": None,
    "memmap_threshold": None,
    "indexing_threshold": 10000,
    "flush_interval_sec": 5,
    "max_optimization_threads": None,
    "prevent_unoptimized": None,
}
WAL: Object = {"wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1}

# The engine counts in 64 bits; what does not fit it must not come as far as the registry.
Count = Annotated[int, Meta(ge=0, le=2**53)]
Positive = Annotated[int, Meta(ge=1, le=2**53)]


class Hnsw(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fields of an `hnsw_config`, and their limits."""

    m: Annotated[int, Meta(ge=0, le=10_000)] | None = None
    ef_construct: Annotated[int, Meta(ge=4, le=1_000_000)] | None = None
    full_scan_threshold: Annotated[int, Meta(ge=10, le=2**53)] | None = None
    max_indexing_threads: Annotated[int, Meta(ge=0, le=1024)] | None = None
    on_disk: bool | None = None
    memory: Memory | None = None
    payload_m: Annotated[int, Meta(ge=0, le=10_000)] | None = None
    inline_storage: bool | None = None


class Optimizers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fields of an `optimizers_config`, and their limits."""

    deleted_threshold: Annotated[float, Meta(ge=0, le=1)] | None = None
    vacuum_min_vector_number: Annotated[int, Meta(ge=100, le=2**53)] | None = None
    default_segment_number: Annotated[int, Meta(ge=0, le=1024)] | None = None
    max_segment_size: Positive | None = None
    memmap_threshold: Count | None = None
    indexing_threshold: Count | None = None
    flush_interval_sec: Count | None = None
    max_optimization_threads: Count | Literal["auto"] | None = None
    prevent_unoptimized: bool | None = None


class Wal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fields of a `wal_config`, and their limits. They are kept and shown; the log's form is the engine's."""

    wal_capacity_mb: Positive | None = None
    wal_segments_ahead: Count | None = None
    wal_retain_closed: Count | None = None


def hnsw(given: Object | None) -> Object:
    """The fields that an `hnsw_config` really gives, checked."""
    given = renamed(given or {}, full_scan_threshold_kb="full_scan_threshold")
    shaped(given, Hnsw, "hnsw_config")
    return without_nulls(given)


def optimizers(given: Object | None) -> Object:
    """The fields that an `optimizers_config` really gives, checked."""
    sizes = ("max_segment_size", "memmap_threshold", "indexing_threshold")
    given = renamed(given or {}, **{f"{name}_kb": name for name in sizes})
    shaped(given, Optimizers, "optimizers_config")
    return without_nulls(given)


def wal(given: Object | None) -> Object:
    """The fields that a `wal_config` really gives, checked."""
    shaped(given or {}, Wal, "wal_config")
    return without_nulls(given)


def printed_optimizers(kept: Object) -> Object:
    """An `optimizers_config` as Qdrant prints it."""
    printed = {**OPTIMIZERS, **kept}
    return {**printed, "max_optimization_threads": None} if kept.get("max_optimization_threads") == "auto" else printed


def hnsw_for_engine(kept: Object) -> edge.HnswIndexConfig:
    """The engine's form of the given fields, the others as they are by default."""
    fields = {**HNSW, **kept}
    memory = fields.pop("memory", None)
    return edge.HnswIndexConfig(**fields, memory=MEMORY[memory] if memory else None)


def optimizers_for_engine(kept: Object) -> edge.EdgeOptimizersConfig:
    """The engine's form of the given fields.

    `prevent_unoptimized` is withheld: it hides points until they are optimised, and no one may do that here.
    """
    fields = (
        "deleted_threshold",
        "vacuum_min_vector_number",
        "default_segment_number",
        "max_segment_size",
        "indexing_threshold",
    )
    return edge.EdgeOptimizersConfig(**{name: kept[name] for name in fields if name in kept})
