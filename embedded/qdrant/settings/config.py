"""A collection's configuration: what is kept of it, how it is printed, and the engine's form of it."""

from typing import Annotated, Any, Literal

import msgspec
import qdrant_edge as edge
from msgspec import Meta

from embedded.qdrant.settings import tuning
from embedded.qdrant.settings.memory import MEMORY, Memory
from embedded.qdrant.settings.quantization import Quantization

DEFAULT_VECTOR = ""
MAX_SIZE = 65536

SEARCH_THREADS = 1
"""Requests come one by one: handing a short search to further threads, which sleep, costs more than they save."""

Distance = Literal["Cosine", "Euclid", "Dot", "Manhattan"]
Datatype = Literal["float32", "uint8", "float16", "turbo4", "turbo8", "turbo16"]
SparseDatatype = Literal["float32", "uint8", "float16"]
Object = dict[str, Any]

_DISTANCES = {
    "Cosine": edge.Distance.Cosine,
    "Euclid": edge.Distance.Euclid,
    "Dot": edge.Distance.Dot,
    "Manhattan": edge.Distance.Manhattan,
}
# The type stubs of the engine leave out what it does have: Turbo4.
_TYPES: Any = edge.VectorStorageDatatype
_DATATYPES: dict[str, edge.VectorStorageDatatype] = {
    "float32": _TYPES.Float32,
    "float16": _TYPES.Float16,
    "uint8": _TYPES.Uint8,
    "turbo4": _TYPES.Turbo4,
    "turbo8": _TYPES.Turbo8,
    "turbo16": _TYPES.Turbo16,
}
_PARAMS = {"shard_number": 1, "replication_factor": 1, "write_consistency_factor": 1, "on_disk_payload": True}


class MultiVector(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Several vectors for each point, compared by MaxSim."""

    comparator: Literal["max_sim"]


class VectorParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A dense vector of a collection."""

    size: Annotated[int, Meta(ge=1, le=MAX_SIZE)]
    distance: Distance
    on_disk: bool | None = None
    memory: Memory | None = None
    datatype: Datatype | None = None
    multivector_config: MultiVector | None = None
    hnsw_config: Object | None = None
    quantization_config: Quantization | None = None

    def space(self) -> tuple[Any, ...]:
        """What makes it this vector and no other; all else can be changed."""
        return self.size, self.distance, self.datatype, self.multivector_config


class SparseIndex(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a sparse vector's index is kept."""

    full_scan_threshold: tuning.Count | None = None
    on_disk: bool | None = None
    memory: Memory | None = None
    datatype: SparseDatatype | None = None


class SparseParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A sparse vector of a collection."""

    index: SparseIndex | None = None
    modifier: Literal["none", "idf"] | None = None

    def space(self) -> tuple[Any, ...]:
        """What makes it this vector and no other; all else can be changed."""
        return self.modifier, self.index and self.index.datatype


class CollectionConfig(msgspec.Struct, frozen=True):
    """What a collection was given, at its creation or later. The default vector is the one with the empty name."""

    vectors: dict[str, VectorParams] = {}
    sparse: dict[str, SparseParams] = {}
    params: Object = {}
    hnsw: Object = {}
    optimizers: Object = {}
    wal: Object = {}
    quantization: Quantization | None = None
    strict: Object = {}
    indexes: dict[str, Object] = {}
    """The options of payload indexes, for those that were given any."""

    def names(self) -> list[str]:
        """All vector names, dense before sparse."""
        return [*self.vectors, *self.sparse]

    def spaces(self) -> Object:
        """Each vector's name with what makes it this vector: what a point is checked against."""
        return {name: params.space() for vectors in (self.vectors, self.sparse) for name, params in vectors.items()}

    def printed(self, metadata: Object | None) -> Object:
        """The `config` part of Qdrant's collection info."""
        vectors = self.vectors[DEFAULT_VECTOR] if set(self.vectors) == {DEFAULT_VECTOR} else self.vectors
        params: Object = {"vectors": vectors, **_PARAMS, **self.params}
        if self.sparse:
            params["sparse_vectors"] = self.sparse
        printed: Object = {
            "params": params,
            "hnsw_config": {**tuning.HNSW, "on_disk": False, **self.hnsw},
            "optimizer_config": tuning.printed_optimizers(self.optimizers),
            "wal_config": {**tuning.WAL, **self.wal},
            "quantization_config": self.quantization,
            "strict_mode_config": {"enabled": False, **self.strict},
        }
        return printed if metadata is None else {**printed, "metadata": metadata}

    def warnings(self) -> list[Object]:
        """What of the configuration has no effect, in Qdrant's form."""
        warnings: list[Object] = []
        for name, params in self.vectors.items():
            if not {**self.hnsw, **(params.hnsw_config or {})}.get("inline_storage"):
                continue
            option = f"The `hnsw_config.inline_storage` option for vector '{name}'"
            if params.multivector_config is not None:
                warnings.append({"message": f"{option} has no effect on a multivector."})
            elif not (params.quantization_config or self.quantization):
                warnings.append({"message": f"{option} has no effect without quantization."})
        return warnings

    def for_engine(self) -> edge.EdgeConfig | None:
        """The engine's configuration; None if there is no vector, since the engine knows no such configuration."""
        if not self.names():
            return None
        return edge.EdgeConfig(
            vectors={name: self._dense(params) for name, params in self.vectors.items()} or None,
            sparse_vectors={name: _sparse(params) for name, params in self.sparse.items()} or None,
            on_disk_payload=self.params.get("on_disk_payload"),
            hnsw_config=tuning.hnsw_for_engine(self.hnsw),
            quantization_config=self.quantization and self.quantization.for_engine(),
            optimizers=tuning.optimizers_for_engine(self.optimizers),
            payload_memory=_memory(self.params.get("payload", {}).get("memory")),
            id_tracker_memory=_memory(self.params.get("id_tracker", {}).get("memory")),
            max_search_threads=SEARCH_THREADS,
        )

    def _dense(self, params: VectorParams) -> edge.EdgeVectorParams:
        own = params.hnsw_config
        return edge.EdgeVectorParams(
            params.size,
            _DISTANCES[params.distance],
            on_disk=params.on_disk,
            multivector_config=_multi(params),
            datatype=_DATATYPES[params.datatype] if params.datatype else None,
            hnsw_config=tuning.hnsw_for_engine({**self.hnsw, **own}) if own else None,
            quantization_config=params.quantization_config and params.quantization_config.for_engine(),
            memory=_memory(params.memory),
        )


def creation(name: str, params: VectorParams | SparseParams) -> edge.UpdateOperation:
    """The operation that gives a live shard another vector."""
    if isinstance(params, VectorParams):
        return edge.UpdateOperation.create_dense_vector(
            name,
            params.size,
            _DISTANCES[params.distance],
            _multi(params),
            _DATATYPES[params.datatype] if params.datatype else None,
        )
    index = params.index or SparseIndex()
    return edge.UpdateOperation.create_sparse_vector(
        name,
        edge.Modifier.Idf if params.modifier == "idf" else None,
        _DATATYPES[index.datatype] if index.datatype else None,
    )


def _multi(params: VectorParams) -> edge.MultiVectorConfig | None:
    return params.multivector_config and edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim)


def _sparse(params: SparseParams) -> edge.EdgeSparseVectorParams:
    index = params.index or SparseIndex()
    return edge.EdgeSparseVectorParams(
        full_scan_threshold=index.full_scan_threshold,
        on_disk=index.on_disk,
        modifier=edge.Modifier.Idf if params.modifier == "idf" else None,
        datatype=_DATATYPES[index.datatype] if index.datatype else None,
        memory=_memory(index.memory),
    )


def _memory(memory: str | None) -> edge.Memory | None:
    return MEMORY[memory] if memory else None
