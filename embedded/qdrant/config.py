"""A collection's configuration: read from the wire, printed back, and put into the engine's form."""

from typing import Annotated, Any, Literal

import msgspec
import qdrant_edge as edge
from msgspec import Meta

from embedded.qdrant.errors import bad_request, not_built

DEFAULT_VECTOR = ""

Distance = Literal["Cosine", "Euclid", "Dot", "Manhattan"]
Memory = Literal["cold", "cached", "pinned"]
Datatype = Literal["float32", "uint8", "float16"]
Object = dict[str, Any]

_DISTANCES = {
    "Cosine": edge.Distance.Cosine,
    "Euclid": edge.Distance.Euclid,
    "Dot": edge.Distance.Dot,
    "Manhattan": edge.Distance.Manhattan,
}
_MEMORY = {"cold": edge.Memory.Cold, "cached": edge.Memory.Cached, "pinned": edge.Memory.Pinned}
_DATATYPES = {
    "float32": edge.VectorStorageDatatype.Float32,
    "float16": edge.VectorStorageDatatype.Float16,
    "uint8": edge.VectorStorageDatatype.Uint8,
}
# Qdrant's own defaults, as its documentation gives them.
_HNSW: Object = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000, "max_indexing_threads": 0}
_OPTIMIZERS: Object = {
    "deleted_threshold": 0.2,
    "vacuum_min_vector_number": 1000,
    "default_segment_number": 0,
    "flush_interval_sec": 5,
}


class MultiVector(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Several vectors for each point, compared by MaxSim."""

    comparator: Literal["max_sim"]


class VectorParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A dense vector of a collection."""

    size: Annotated[int, Meta(ge=1, le=65536)]
    distance: Distance
    on_disk: bool | None = None
    memory: Memory | None = None
    datatype: Datatype | None = None
    multivector_config: MultiVector | None = None
    hnsw_config: Object | None = None
    quantization_config: Object | None = None


class SparseIndex(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a sparse vector's index is kept."""

    full_scan_threshold: Annotated[int, Meta(ge=0)] | None = None
    on_disk: bool | None = None
    memory: Memory | None = None
    datatype: Datatype | None = None


class SparseParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A sparse vector of a collection."""

    index: SparseIndex | None = None
    modifier: Literal["none", "idf"] | None = None


class CollectionConfig(msgspec.Struct, frozen=True):
    """What a collection was created with. The default vector is the one with the empty name."""

    vectors: dict[str, VectorParams] = {}
    sparse: dict[str, SparseParams] = {}
    params: Object = {}
    hnsw: Object = {}
    optimizers: Object = {}
    wal: Object = {}

    def names(self) -> list[str]:
        """All vector names, dense before sparse."""
        return [*self.vectors, *self.sparse]

    def printed(self, metadata: Object | None) -> Object:
        """The `config` part of Qdrant's collection info."""
        vectors = self.vectors.get(DEFAULT_VECTOR) if set(self.vectors) == {DEFAULT_VECTOR} else self.vectors
        params: Object = {"vectors": vectors} if vectors else {}
        defaults = {"shard_number": 1, "replication_factor": 1, "write_consistency_factor": 1}
        params |= {**defaults, "on_disk_payload": True, **self.params}
        if self.sparse:
            params["sparse_vectors"] = self.sparse
        printed: Object = {
            "params": params,
            "hnsw_config": {**_HNSW, "on_disk": False, **self.hnsw},
            "optimizer_config": {**_OPTIMIZERS, **self.optimizers},
            "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0, **self.wal},
            "quantization_config": None,
        }
        return printed if metadata is None else {**printed, "metadata": metadata}

    def for_engine(self) -> edge.EdgeConfig:
        """The engine's configuration of a new, empty shard."""
        return edge.EdgeConfig(
            vectors={name: _dense(params) for name, params in self.vectors.items()} or None,
            sparse_vectors={name: _sparse(params) for name, params in self.sparse.items()} or None,
            on_disk_payload=self.params.get("on_disk_payload"),
            hnsw_config=_hnsw(self.hnsw),
        )


class CreateCollection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `PUT /collections/{name}`."""

    vectors: Object | None = None
    sparse_vectors: dict[str, SparseParams] | None = None
    shard_number: int | None = None
    sharding_method: str | None = None
    replication_factor: int | None = None
    write_consistency_factor: int | None = None
    on_disk_payload: bool | None = None
    payload: Object | None = None
    id_tracker: Object | None = None
    hnsw_config: Object | None = None
    wal_config: Object | None = None
    optimizers_config: Object | None = None
    quantization_config: Object | None = None
    strict_mode_config: Object | None = None
    init_from: Object | None = None
    metadata: Object | None = None

    def config(self) -> CollectionConfig:
        """Check the body and keep what lasts; raises ApiError for what is wrong or missing here."""
        if (self.shard_number or 1) > 1 or self.sharding_method not in (None, "auto"):
            raise not_built("more than one shard for a collection")
        for field in ("quantization_config", "init_from", "payload", "id_tracker"):
            if getattr(self, field) is not None:
                raise not_built(f"`{field}` of a collection")
        if (self.strict_mode_config or {}).get("enabled"):
            raise not_built("strict mode")
        vectors, sparse = _vectors(self.vectors), self.sparse_vectors or {}
        if shared := set(vectors) & set(sparse):
            raise bad_request(f"the vector name `{shared.pop()}` is used for a dense and a sparse vector")
        kept = ("shard_number", "replication_factor", "write_consistency_factor", "on_disk_payload")
        config = CollectionConfig(
            vectors=vectors,
            sparse=sparse,
            params=without_nulls({field: getattr(self, field) for field in kept}),
            hnsw=without_nulls(self.hnsw_config),
            optimizers=without_nulls(self.optimizers_config),
            wal=without_nulls(self.wal_config),
        )
        if not config.names():
            raise bad_request("a collection needs at least one vector in `vectors` or `sparse_vectors`")
        return config


class UpdateCollection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `PATCH /collections/{name}`."""

    vectors: Object | None = None
    sparse_vectors: Object | None = None
    quantization_config: Any = None
    strict_mode_config: Object | None = None
    optimizers_config: Object | None = None
    hnsw_config: Object | None = None
    params: Object | None = None
    metadata: Object | None = None

    def applied_to(self, config: CollectionConfig) -> CollectionConfig:
        """The configuration after this update; what it does not name stays."""
        for field in ("vectors", "sparse_vectors", "quantization_config", "strict_mode_config"):
            if getattr(self, field):
                raise not_built(f"a change of `{field}`")
        updated = msgspec.structs.replace(
            config,
            params={**config.params, **without_nulls(self.params)},
            hnsw={**config.hnsw, **without_nulls(self.hnsw_config)},
            optimizers={**config.optimizers, **without_nulls(self.optimizers_config)},
        )
        _hnsw(updated.hnsw)
        return updated


def without_nulls(value: Object | None) -> Object:
    """The fields that were really given."""
    return {key: item for key, item in (value or {}).items() if item is not None}


def _vectors(given: Object | None) -> dict[str, VectorParams]:
    if not given:
        return {}
    # `vectors` is either one vector's parameters or a map of names to parameters.
    named = given if all(isinstance(value, dict) for value in given.values()) else {DEFAULT_VECTOR: given}
    try:
        vectors = msgspec.convert(named, dict[str, VectorParams])
    except msgspec.ValidationError as error:
        raise bad_request(f"`vectors`: {error}") from error
    if any(params.quantization_config is not None for params in vectors.values()):
        raise not_built("`quantization_config` of a vector")
    return vectors


def _dense(params: VectorParams) -> edge.EdgeVectorParams:
    multi = params.multivector_config and edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim)
    return edge.EdgeVectorParams(
        params.size,
        _DISTANCES[params.distance],
        on_disk=params.on_disk,
        multivector_config=multi,
        datatype=_DATATYPES[params.datatype] if params.datatype else None,
        hnsw_config=_hnsw(params.hnsw_config),
        memory=_MEMORY[params.memory] if params.memory else None,
    )


def _sparse(params: SparseParams) -> edge.EdgeSparseVectorParams:
    index = params.index or SparseIndex()
    return edge.EdgeSparseVectorParams(
        full_scan_threshold=index.full_scan_threshold,
        on_disk=index.on_disk,
        modifier=edge.Modifier.Idf if params.modifier == "idf" else None,
        datatype=_DATATYPES[index.datatype] if index.datatype else None,
        memory=_MEMORY[index.memory] if index.memory else None,
    )


class _Hnsw(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    m: Annotated[int, Meta(ge=0, le=10_000)]
    ef_construct: Annotated[int, Meta(ge=4, le=1_000_000)]
    full_scan_threshold: Annotated[int, Meta(ge=0)]
    max_indexing_threads: Annotated[int, Meta(ge=0)] = 0
    on_disk: bool | None = None
    payload_m: Annotated[int, Meta(ge=0, le=10_000)] | None = None
    inline_storage: bool | None = None
    memory: Memory | None = None


def _hnsw(given: Object | None) -> edge.HnswIndexConfig | None:
    """The engine's form of an `hnsw_config`; nothing is built by it until a shard is optimised."""
    if not given:
        return None
    try:
        hnsw = msgspec.convert({**_HNSW, **given}, _Hnsw)
    except msgspec.ValidationError as error:
        raise bad_request(f"`hnsw_config`: {error}") from error
    fields = {field: getattr(hnsw, field) for field in hnsw.__struct_fields__ if field != "memory"}
    return edge.HnswIndexConfig(**fields, memory=_MEMORY[hnsw.memory] if hnsw.memory else None)
