"""`python -m bench.vector_engine FOLDER`: hybrid queries asked of a shard directly, without any server.

Reads a query's body as a line of JSON from stdin, and answers with the milliseconds that it took.
"""

from __future__ import annotations

import json
import sys
from time import perf_counter
from typing import Any

import qdrant_edge as edge


def main(folder: str) -> None:
    shard = edge.EdgeShard.load(folder)
    print("ready", flush=True)
    for line in sys.stdin:
        body = json.loads(line)
        started = perf_counter()
        found = shard.query(_request(body))
        seconds = perf_counter() - started
        assert len(found) == body["limit"]
        print(seconds * 1000, flush=True)


def _request(body: dict[str, Any]) -> edge.QueryRequest:
    dense, lexical = body["prefetch"]
    words = edge.SparseVector(lexical["query"]["indices"], lexical["query"]["values"])
    prefetches = [
        edge.Prefetch(dense["limit"], query=edge.Query.Nearest(dense["query"], "dense")),
        edge.Prefetch(lexical["limit"], query=edge.Query.Nearest(words, "lexical")),
    ]
    fusion: Any = edge.Fusion.Rrf(k=2)  # the stubs do not know it for a query
    return edge.QueryRequest(body["limit"], query=fusion, prefetches=prefetches, with_payload=True)


if __name__ == "__main__":
    main(sys.argv[1])
