"""What `GET /telemetry` reports, in the shape of Qdrant's server.

The engine gives the figures of a collection, not of each of its segments: one segment stands for all of them.
"""

import math
from typing import Any

import qdrant_edge as edge

from embedded.qdrant.api.durations import RequestDurations, printed
from embedded.qdrant.shards import machine
from embedded.qdrant.shards.collection import Collection
from embedded.qdrant.shards.store import Store

Object = dict[str, Any]

_NO_DURATIONS: Object = {"count": 0}
_SEARCHES = (
    "unfiltered_plain",
    "unfiltered_hnsw",
    "unfiltered_sparse",
    "filtered_plain",
    "filtered_small_cardinality",
    "filtered_large_cardinality",
    "filtered_exact",
    "filtered_sparse",
    "unfiltered_exact",
)
_FEATURES = ("debug", "service_debug_feature", "recovery_mode", "gpu", "rocksdb", "staging")


def report(store: Store, identity: str, app: Object, requests: RequestDurations, level: int, each: bool) -> Object:
    """The whole report. `level` is Qdrant's `details_level`; `each` adds the requests of each collection."""
    whole: Object = {
        "id": identity,
        "app": app,
        "collections": _collections(store, level),
        "cluster": {"enabled": False},
        "requests": _requests(store, requests, each),
    }
    if level > 0:
        whole["app"] = {
            **app,
            "features": dict.fromkeys(_FEATURES, False),
            "low_memory_mode": "disabled",
            "system": machine.described(store.data),
        }
        if (resident := machine.resident_bytes()) is not None:
            # The engine's allocator is closed; what the system says is all that there is to know.
            whole["memory"] = {
                "active_bytes": resident,
                "allocated_bytes": resident,
                "metadata_bytes": 0,
                "resident_bytes": resident,
                "retained_bytes": 0,
            }
        whole["hardware"] = {"collection_data": {}}
        whole["search_pool"] = {"mode": "high_cpu", "high_cpu_threads": 1, "high_io_threads": 1}
    whole["quota"] = {"config": {"enabled": False}, "exceeded": {}}
    return whole


def vectors_by_name(collection: Collection) -> dict[str, int]:
    """How many points have each vector, roughly."""
    names = collection.config.names()
    return collection.read(
        lambda shard: {
            name: shard.count(edge.CountRequest(False, edge.Filter(must=[edge.HasVectorCondition(name)])))
            for name in names
        }
    )


def _requests(store: Store, requests: RequestDurations, each: bool) -> Object:
    rest: Object = {"responses": printed(requests.routes)}
    if each:
        requests.keep({*store.collections, *store.aliases})
        rest["per_collection_responses"] = {name: printed(routes) for name, routes in requests.collections.items()}
    return {"rest": rest, "grpc": {"responses": {}}}


def _collections(store: Store, level: int) -> Object:
    reported: Object = {"number_of_collections": len(store.collections)}
    if level == 0:
        return reported
    one = _aggregated if level == 1 else _detailed
    reported["collections"] = [one(collection, level) for collection in store.collections.values()]
    reported["snapshots"] = []
    return reported


def _aggregated(collection: Collection, _level: int) -> Object:
    readable = collection.unreadable is None
    return {
        "vectors": sum(vectors_by_name(collection).values()) if readable else 0,
        "optimizers_status": "ok" if _status(collection) == "green" else {"error": _trouble(collection)},
        "params": _config(collection)["params"],
    }


def _detailed(collection: Collection, level: int) -> Object:
    reported: Object = {"id": collection.name, "init_time_ms": 0, "config": _config(collection)}
    if level >= 3:
        shard = {
            "id": 0,
            "key": None,
            "local": _local_shard(collection, level),
            "remote": [],
            "replicate_states": {"0": "Active" if _status(collection) == "green" else "Dead"},
            "partial_snapshot": {
                "ongoing_create_snapshot_requests": 0,
                "is_recovering": False,
                "recovery_timestamp": 0,
            },
        }
        reported |= {"shards": [shard], "transfers": [], "resharding": []}
    return reported


def _local_shard(collection: Collection, level: int) -> Object:
    readable = collection.unreadable is None
    by_name = vectors_by_name(collection) if readable else {}
    points = collection.info().points_count if readable else 0
    size = _bytes_of_vectors(collection, by_name)
    reported: Object = {
        "variant_name": "local shard",
        "status": _status(collection),
        "total_optimized_points": 0,
        "vectors_size_bytes": size,
        "payloads_size_bytes": None,
        "num_points": points,
        "num_vectors": sum(by_name.values()),
        "num_vectors_by_name": by_name,
        "optimizations": {
            "status": "ok" if readable else {"error": _trouble(collection)},
            "optimizations": _NO_DURATIONS,
            "log": [],
        },
        "async_scorer": False,
        "update_queue": {"length": 0, "op_num": collection.operations},
    }
    if level > 3:
        reported["segments"] = [_segment(collection, by_name, size)] if readable else []
        reported["indexed_only_excluded_vectors"] = {}
    return reported


def _segment(collection: Collection, by_name: dict[str, int], size: int) -> Object:
    info, config = collection.info(), collection.config
    indexes = {
        field: {"data_type": str(index.data_type).rpartition(".")[2].lower(), "points": index.points}
        for field, index in info.payload_schema.items()
    }
    return {
        "info": {
            "uuid": "00000000-0000-0000-0000-000000000000",
            "segment_type": "indexed" if info.indexed_vectors_count else "plain",
            "num_vectors": sum(by_name.values()),
            "num_points": info.points_count,
            "num_deferred_points": 0,
            "num_deleted_deferred_points": 0,
            "num_indexed_vectors": info.indexed_vectors_count,
            "num_deleted_vectors": 0,
            "vectors_size_bytes": size,
            "payloads_size_bytes": 0,
            "ram_usage_bytes": 0,
            "disk_usage_bytes": 0,
            "is_appendable": True,
            "index_schema": indexes,
            "vector_data": {
                name: {"num_vectors": count, "num_indexed_vectors": 0, "num_deleted_vectors": 0}
                for name, count in by_name.items()
            },
        },
        "config": {
            "vector_data": {
                name: {
                    "size": params.size,
                    "distance": params.distance,
                    "storage_type": "ChunkedMmap",
                    "index": {"type": "plain", "options": {}},
                }
                for name, params in config.vectors.items()
            },
            "sparse_vector_data": {
                name: {"index": {"index_type": "MutableRam"}, "storage_type": "mmap"} for name in config.sparse
            },
            "payload_storage_type": {"type": "mmap"},
        },
        "vector_index_searches": [
            {"index_name": name, **dict.fromkeys(_SEARCHES, _NO_DURATIONS)} for name in config.names()
        ],
        "payload_field_indices": [
            {
                "field_name": field,
                "index_type": index["data_type"],
                "points_values_count": index["points"],
                "points_count": index["points"],
            }
            for field, index in indexes.items()
        ],
    }


def _bytes_of_vectors(collection: Collection, by_name: dict[str, int]) -> int:
    # As 32-bit numbers. What a multivector or a sparse vector takes is not known without reading it.
    return math.floor(sum(params.size * 4 * by_name.get(name, 0) for name, params in collection.config.vectors.items()))


def _config(collection: Collection) -> Object:
    return collection.config.printed(collection.record.metadata)


def _status(collection: Collection) -> str:
    return "red" if _trouble(collection) else "green"


def _trouble(collection: Collection) -> str | None:
    return collection.unreadable or collection.unwritable
