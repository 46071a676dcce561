"""The bodies that create and change a collection: checked as Qdrant checks them, and applied to its configuration."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from embedded.qdrant.errors import ApiError, bad_request, invalid, not_built
from embedded.qdrant.settings import tuning
from embedded.qdrant.settings.config import (
    DEFAULT_VECTOR,
    MAX_SIZE,
    CollectionConfig,
    Datatype,
    Distance,
    MultiVector,
    SparseIndex,
    SparseParams,
    VectorParams,
)
from embedded.qdrant.settings.memory import Memory, refuse_pinned
from embedded.qdrant.settings.quantization import changed as changed_quantization
from embedded.qdrant.settings.shapes import renamed, shaped, without_nulls

Object = dict[str, Any]
MAX_VECTOR_NAME = 200
"""The longest name of a vector, in bytes; Qdrant's own limit."""

_FORBIDDEN_IN_NAMES = frozenset('<>:"/\\|?*\0\x1f')


class Placement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the payload, or the table of ids, is kept."""

    memory: Memory | None = None


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fields of `params`, and their limits."""

    shard_number: tuning.Positive | None = None
    replication_factor: tuning.Positive | None = None
    write_consistency_factor: tuning.Positive | None = None
    read_fan_out_factor: tuning.Count | None = None
    read_fan_out_delay_ms: tuning.Count | None = None
    on_disk_payload: bool | None = None
    payload: Placement | None = None
    id_tracker: Placement | None = None


class CreateCollection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `PUT /collections/{name}`."""

    vectors: Object | None = None
    sparse_vectors: dict[str, Object] | None = None
    shard_number: Any = None
    sharding_method: str | None = None
    replication_factor: Any = None
    write_consistency_factor: Any = None
    on_disk_payload: Any = None
    payload: Any = None
    id_tracker: Any = None
    hnsw_config: Object | None = None
    wal_config: Object | None = None
    optimizers_config: Object | None = None
    optimizer_config: Object | None = None
    quantization_config: Any = None
    quantization: Any = None
    strict_mode_config: Object | None = None
    init_from: Object | None = None
    metadata: Object | None = None

    def config(self) -> CollectionConfig:
        """Check the body and keep what lasts; raises ApiError for what is wrong or missing here."""
        given = ("shard_number", "replication_factor", "write_consistency_factor", "on_disk_payload")
        params = _params({name: getattr(self, name) for name in (*given, "payload", "id_tracker")})
        if params.get("shard_number", 1) > 1 or self.sharding_method not in (None, "auto"):
            raise not_built("more than one shard for a collection")
        if self.init_from is not None:
            raise not_built("`init_from` of a collection")
        config = CollectionConfig(
            vectors=_vectors(self.vectors),
            sparse={name: _sparse(name, value) for name, value in (self.sparse_vectors or {}).items()},
            params=params,
            hnsw=tuning.hnsw(self.hnsw_config),
            optimizers=tuning.optimizers(self.optimizers_config or self.optimizer_config),
            wal=tuning.wal(self.wal_config),
            quantization=changed_quantization(None, self.quantization_config or self.quantization),
            strict=_strict(self.strict_mode_config),
        )
        _check_names(config)
        return config


class UpdateCollection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `PATCH /collections/{name}`."""

    vectors: dict[str, Object] | None = None
    sparse_vectors: dict[str, Object] | None = None
    quantization_config: Any = None
    quantization: Any = None
    strict_mode_config: Object | None = None
    optimizers_config: Object | None = None
    optimizer_config: Object | None = None
    hnsw_config: Object | None = None
    params: Object | None = None
    metadata: Object | None = None

    def applied_to(self, config: CollectionConfig) -> CollectionConfig:
        """The configuration after this update; what it does not name stays."""
        vectors, sparse = dict(config.vectors), dict(config.sparse)
        for name, value in (self.vectors or {}).items():
            vectors[name] = _changed_vector(_known(vectors, name), value)
        for name, value in (self.sparse_vectors or {}).items():
            sparse[name] = _changed_sparse(_known(sparse, name), _sparse(name, value))
        if "shard_number" in (self.params or {}):
            raise bad_request("the number of shards cannot be changed")
        return msgspec.structs.replace(
            config,
            vectors=vectors,
            sparse=sparse,
            params={**config.params, **_params(self.params or {})},
            hnsw={**config.hnsw, **tuning.hnsw(self.hnsw_config)},
            optimizers={**config.optimizers, **tuning.optimizers(self.optimizers_config or self.optimizer_config)},
            quantization=changed_quantization(config.quantization, self.quantization_config or self.quantization),
            strict={**config.strict, **_strict(self.strict_mode_config)},
        )


class DenseVector(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The vector space of a new dense vector."""

    size: Annotated[int, Meta(ge=1, le=MAX_SIZE)]
    distance: Distance
    multivector_config: MultiVector | None = None
    datatype: Datatype | None = None


class CreateVector(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `PUT /collections/{name}/vectors/{vector}`: a collection's new vector."""

    dense: Object | None = None
    sparse: Object | None = None

    def params(self) -> VectorParams | SparseParams:
        """The parameters of the new vector; raises ApiError."""
        if (self.dense is None) == (self.sparse is None):
            raise ApiError(400, "Format error in JSON body: a new vector is either `dense` or `sparse`")
        if self.dense is not None:
            new = shaped(self.dense, DenseVector, "dense")
            return VectorParams(
                new.size, new.distance, datatype=new.datatype, multivector_config=new.multivector_config
            )
        given = without_nulls(self.sparse)
        datatype = given.pop("datatype", None)
        return _sparse("sparse", {**given, "index": {"datatype": datatype}} if datatype else given)


def with_vector(config: CollectionConfig, name: str, params: VectorParams | SparseParams) -> CollectionConfig:
    """The configuration with one vector more; the same object if it is there already. Raises ApiError (400)."""
    _check_name(name, "")
    known = config.vectors.get(name) or config.sparse.get(name)
    if known is None:
        if isinstance(params, VectorParams):
            return msgspec.structs.replace(config, vectors={**config.vectors, name: params})
        return msgspec.structs.replace(config, sparse={**config.sparse, name: params})
    if type(known) is type(params) and known.space() == params.space():
        return config
    kind = "dense" if isinstance(known, VectorParams) else "sparse"
    other = "a different configuration" if type(known) is type(params) else f"another kind, {kind}"
    raise bad_request(f"Vector `{name}` already exists with {other}")


def without_vector(config: CollectionConfig, name: str) -> CollectionConfig:
    """The configuration without this vector."""
    return msgspec.structs.replace(
        config,
        vectors={key: params for key, params in config.vectors.items() if key != name},
        sparse={key: params for key, params in config.sparse.items() if key != name},
    )


def _vectors(given: Object | None) -> dict[str, VectorParams]:
    if not given:
        return {}
    # `vectors` is either one vector's parameters or a map of names to parameters.
    if all(isinstance(value, dict) for value in given.values()):
        return {name: _vector(value, f"vectors.{name}") for name, value in given.items()}
    return {DEFAULT_VECTOR: _vector(given, "vectors")}


def _vector(given: Object, what: str) -> VectorParams:
    given = without_nulls(renamed(given, quantization="quantization_config"))
    refuse_pinned(given.get("memory"), "dense vector storage")
    if isinstance(size := given.get("size"), int) and (size == 0 or size > MAX_SIZE):
        raise invalid(f"{what}.size: value {size} invalid, must be from 1 to {MAX_SIZE}")
    if "hnsw_config" in given:
        given["hnsw_config"] = tuning.hnsw(shaped(given["hnsw_config"], Object, f"{what}.hnsw_config")) or None
    return shaped(given, VectorParams, what)


def _changed_vector(current: VectorParams, given: Object) -> VectorParams:
    given = without_nulls(renamed(given, quantization="quantization_config"))
    allowed = {"hnsw_config", "quantization_config", "on_disk", "memory"}
    if unknown := set(given) - allowed:
        raise bad_request(f"`{unknown.pop()}` of a vector cannot be changed; {', '.join(sorted(allowed))} can")
    refuse_pinned(given.get("memory"), "dense vector storage")
    new = shaped({"size": 1, "distance": "Dot", **given, "quantization_config": None}, VectorParams, "vectors")
    graph = current.hnsw_config
    if new.hnsw_config is not None:
        # An empty object unsets what this vector had of its own.
        graph = {**(graph or {}), **tuning.hnsw(new.hnsw_config)} if new.hnsw_config else None
    return msgspec.structs.replace(
        current,
        hnsw_config=graph,
        quantization_config=changed_quantization(current.quantization_config, given.get("quantization_config")),
        on_disk=current.on_disk if new.on_disk is None else new.on_disk,
        memory=new.memory or current.memory,
    )


def _sparse(name: str, given: Object) -> SparseParams:
    index = given.get("index")
    if isinstance(index, dict) and str(index.get("datatype")).startswith("turbo"):
        raise invalid(f"{name}.index.datatype: sparse vectors do not support the `{index['datatype']}` datatype")
    return shaped(given, SparseParams, f"sparse_vectors.{name}")


def _changed_sparse(current: SparseParams, new: SparseParams) -> SparseParams:
    index = current.index
    if new.index is not None:
        fields = without_nulls(msgspec.structs.asdict(new.index))
        index = msgspec.structs.replace(index or SparseIndex(), **fields)
    return SparseParams(index, new.modifier or current.modifier)


def _known(vectors: dict[str, Any], name: str) -> Any:
    if name not in vectors:
        raise bad_request(f"Not existing vector name error: {name}")
    return vectors[name]


def _params(given: Object) -> Object:
    payload = given.get("payload")
    refuse_pinned(payload.get("memory") if isinstance(payload, dict) else None, "payload storage")
    shaped(given, Params, "params")
    return without_nulls(given)


def _strict(given: Object | None) -> Object:
    if (given or {}).get("enabled"):
        raise not_built("strict mode")
    return without_nulls(given)


def _check_names(config: CollectionConfig) -> None:
    for name in config.vectors:
        _check_name(name, "dense ")
    for name in config.sparse:
        _check_name(name, "sparse ")
    if DEFAULT_VECTOR in config.sparse:
        raise bad_request("Sparse vector name cannot be empty")
    if shared := set(config.vectors) & set(config.sparse):
        raise bad_request(f"Dense and sparse vector names must be unique - duplicate found with '{min(shared)}'")


def _check_name(name: str, kind: str) -> None:
    if len(name.encode()) > MAX_VECTOR_NAME:
        raise bad_request(f"Invalid {kind}vector name: it has more than {MAX_VECTOR_NAME} bytes")
    if found := _FORBIDDEN_IN_NAMES.intersection(name):
        raise bad_request(f"Invalid {kind}vector name: it cannot contain {min(found)!r}")
