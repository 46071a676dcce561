"""The embedded vector store at 50,000 and 200,000 passages: beside the engine without a server, and the client's local mode.

A hybrid query is two prefetches of 50 (dense and sparse), fused by rank, 10 points with their payload. It is timed over
a kept connection of the standard library, from the body in JSON to the decoded answer; what a client library
adds is in the row of qdrant-client. The collection is loaded with
`indexing_threshold` 0, so that there is a time before indexing, and then given Qdrant's default, 10,000 KB.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Event, Thread
from time import monotonic, perf_counter, sleep
from typing import Any

import httpx
import numpy as np
import psutil
from qdrant_client import QdrantClient, models

from bench.results import Row
from bench.services import vector_store_process
from bench.vector_points import LIMIT, SIZE, Chunk, chunks, queries
from zhiyun.repository import REPOSITORY

SIZES = (50_000, 200_000)
COMPARED = 50_000
WAIT = 600.0  # seconds that indexing may take
COLLECTION = "passages"
_BATCH = 500
_DISTINCT = 200
_BLOCK = 20
_ROUNDS = 5
_LOCAL_QUERIES = 7


def run(sizes: Iterable[int] = SIZES, compared: int = COMPARED, wait: float = WAIT) -> Iterable[Row]:
    """Measure at each of `sizes`, and compare at one of them. Smaller ones than the defaults are for a quick trial."""
    for size in sizes:
        with tempfile.TemporaryDirectory() as name:
            with vector_store_process(Path(name)) as (url, pid):
                bench = _Bench(Path(name), url, pid, size)
                yield from bench.measure(wait)
                if size != compared:
                    continue
                yield from bench.beside_the_engine()
                client = bench.client_p50()
            yield Row("vector_store.client_hybrid_p50_ms", client, "ms", f"qdrant-client, {size:,} points", None)
            local = _local_p50(size)
            yield Row("vector_store.local_mode_hybrid_p50_ms", local, "ms", "qdrant-client's local mode", None)
            peer = f"qdrant-client's local mode, both through the client, {size:,} points"
            yield Row("vector_store.speedup_vs_local_mode", local / client, "times", peer, 100)


class _Bench:
    """One collection in one server process."""

    def __init__(self, home: Path, url: str, pid: int, size: int) -> None:
        self.home = home
        self.url = url
        self.size = size
        self.label = f"vector_store.{size // 1000}k"
        self.process = psutil.Process(pid)
        self.queries = queries(_DISTINCT)
        self.bodies = [json.dumps(query) for query in self.queries]
        points = [{"id": i, "vector": v, "payload": p} for i, v, p in next(chunks(100)).points()]
        self.again = [json.dumps({"points": points[start : start + 10]}) for start in range(0, len(points), 10)]

    def row(self, name: str, value: float, unit: str, compared_with: str = "") -> Row:
        return Row(f"{self.label}.{name}", value, unit, compared_with or f"{self.size:,} points", None)

    def measure(self, wait: float) -> Iterator[Row]:
        """Load, query, have it indexed, query again."""
        client = QdrantClient(self.url, timeout=60, check_compatibility=False)
        seconds = _load(client, self.size)
        yield self.row("upserts_per_s", self.size / seconds, "points/s", f"qdrant-client, batches of {_BATCH}")
        yield from self._hybrid("unindexed", 300)
        before = self._info()
        with self._repeated(self._read) as reads, self._repeated(self._write) as writes:
            started = monotonic()
            client.update_collection(
                COLLECTION, optimizers_config=models.OptimizersConfigDiff(indexing_threshold=10_000)
            )
            peak = self._wait_until_indexed(before["indexed_vectors_count"], wait)
            seconds = monotonic() - started
        client.close()
        after = self._info()
        # The sparse vectors count too, and are indexed from the start.
        gained = (after["indexed_vectors_count"] - before["indexed_vectors_count"]) / self.size
        print(f"indexed vectors: {before['indexed_vectors_count']}, then {after['indexed_vectors_count']}", flush=True)
        yield Row(f"{self.label}.indexed_share", gained, "of the points", f"within {wait:.0f} s", 0.9)
        yield self.row("indexing_seconds", seconds, "s", "in the background, writes going on")
        yield self.row("indexing_peak_resident_mib", peak / 2**20, "MiB", "the server and its child")
        yield self.row("worst_read_stall_ms", max(reads), "ms", f"of {len(reads)} hybrid queries while it indexed")
        yield self.row("worst_write_stall_ms", max(writes), "ms", f"of {len(writes)} upserts while it indexed")
        yield from self._hybrid("indexed", 1000)
        yield self.row("resident_mib", self.process.memory_info().rss / 2**20, "MiB")
        yield self.row("disk_mib", _allocated(self.home / "qdrant") / 2**20, "MiB")

    def beside_the_engine(self) -> Iterator[Row]:
        """The same queries in the same minutes, by the engine on a copy of the same shard."""
        with self._copy_of_the_shard() as shard, _engine(shard) as ask, self._http() as http:
            for body, query in zip(self.bodies, self.queries, strict=True):
                ask(query)
                _timed(http, body)
            over_http: list[float] = []
            direct: list[float] = []
            for _ in range(_ROUNDS):
                for start in range(0, len(self.queries), _BLOCK):
                    block = slice(start, start + _BLOCK)
                    over_http += [_timed(http, body) for body in self.bodies[block]]
                    direct += [ask(query) for query in self.queries[block]]
        ours, engine = float(np.median(over_http)), float(np.median(direct))
        yield Row(
            "vector_store.engine_hybrid_p50_ms", engine, "ms", f"qdrant_edge in process, {self.size:,} points", None
        )
        peer = f"HTTP {ours:.2f} ms, qdrant_edge in process on a copy of the data"
        yield Row("vector_store.ratio_to_engine", ours / engine, "ratio", peer, 2.5, more_is_better=False)

    def client_p50(self) -> float:
        """Milliseconds of the hybrid query through qdrant-client."""
        client = QdrantClient(self.url, timeout=60, check_compatibility=False)
        times = _client_times(client, self.queries)
        client.close()
        return float(np.median(times))

    def _http(self) -> closing[HTTPConnection]:
        return closing(HTTPConnection(self.url.removeprefix("http://"), timeout=60))

    def _info(self) -> dict[str, Any]:
        return httpx.get(f"{self.url}/collections/{COLLECTION}", timeout=60).raise_for_status().json()["result"]

    def _hybrid(self, state: str, count: int) -> Iterator[Row]:
        with self._http() as http:
            for body in self.bodies[:_BLOCK]:
                _timed(http, body)
            times = [_timed(http, self.bodies[i % len(self.bodies)]) for i in range(count)]
        yield self.row(f"{state}_hybrid_p50_ms", float(np.percentile(times, 50)), "ms", f"{count} queries over HTTP")
        yield self.row(f"{state}_hybrid_p99_ms", float(np.percentile(times, 99)), "ms", f"{count} queries over HTTP")

    def _wait_until_indexed(self, before: int, wait: float) -> int:
        """Wait until the dense vectors are indexed; gives the most bytes that were resident meanwhile."""
        peak = 0
        until = monotonic() + wait
        while monotonic() < until:
            peak = max(peak, self._resident())
            info = self._info()
            if info["status"] == "green" and info["indexed_vectors_count"] - before >= 0.9 * self.size:
                break
            sleep(0.5)
        return peak

    def _resident(self) -> int:
        total = 0
        for process in (self.process, *self.process.children(recursive=True)):
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:  # the child ended meanwhile
                continue
        return total

    def _read(self, http: HTTPConnection, turn: int) -> None:
        _timed(http, self.bodies[turn % len(self.bodies)])

    def _write(self, http: HTTPConnection, turn: int) -> None:
        """Write ten points again as they are."""
        _answer(http, "PUT", "/points?wait=true", self.again[turn % len(self.again)])

    @contextmanager
    def _repeated(self, call: Callable[[HTTPConnection, int], None]) -> Iterator[list[float]]:
        """Make a call over and over in a thread for as long as the block lasts; gives how many ms each took."""
        times: list[float] = []
        failures: list[Exception] = []
        stop = Event()

        def repeat() -> None:
            with self._http() as http:
                while not stop.is_set():
                    started = perf_counter()
                    try:
                        call(http, len(times))
                    except (OSError, HTTPException, ValueError) as error:
                        failures.append(error)
                        return
                    times.append((perf_counter() - started) * 1000)
                    stop.wait(0.05)

        thread = Thread(target=repeat)
        thread.start()
        try:
            yield times
        finally:
            stop.set()
            thread.join()
        if failures:
            raise failures[0]

    @contextmanager
    def _copy_of_the_shard(self) -> Iterator[Path]:
        """A copy of the generation that counts, once the server has flushed what it was sent."""
        sleep(5)
        data = self.home / "qdrant"
        record = json.loads((data / "registry.json").read_text())["collections"][COLLECTION]
        shard = data / "collections" / record["folder"] / f"generation-{record['generation']:06d}"
        with tempfile.TemporaryDirectory() as copy:
            subprocess.run(["cp", "-R", str(shard), f"{copy}/shard"], check=True)
            yield Path(copy) / "shard"


def _load(client: QdrantClient, size: int) -> float:
    """Create the collection and write the points; gives the seconds that the writing took."""
    client.create_collection(
        COLLECTION,
        vectors_config={"dense": models.VectorParams(size=SIZE, distance=models.Distance.COSINE)},
        sparse_vectors_config={"lexical": models.SparseVectorParams(modifier=models.Modifier.IDF)},
        optimizers_config=models.OptimizersConfigDiff(indexing_threshold=0),
    )
    seconds = 0.0
    for chunk in chunks(size):
        points = _structs(chunk)
        started = perf_counter()
        for start in range(0, len(points), _BATCH):
            client.upsert(COLLECTION, points[start : start + _BATCH], wait=True)
        seconds += perf_counter() - started
    return seconds


def _structs(chunk: Chunk) -> list[models.PointStruct]:
    return [
        models.PointStruct(
            id=number,
            vector={"dense": vector["dense"], "lexical": models.SparseVector(**vector["lexical"])},
            payload=payload,
        )
        for number, vector, payload in chunk.points()
    ]


def _local_p50(size: int) -> float:
    """Milliseconds of the hybrid query in qdrant-client's local mode, in memory, where it is quickest."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it advises against collections of this size
        client = QdrantClient(":memory:")
        _load(client, size)
        times = _client_times(client, queries(_LOCAL_QUERIES))
        client.close()
    return float(np.median(times))


def _client_times(client: QdrantClient, bodies: list[dict[str, Any]]) -> list[float]:
    times: list[float] = []
    for body in bodies:
        dense, lexical = body["prefetch"]
        words = models.SparseVector(**lexical["query"])
        started = perf_counter()
        client.query_points(
            COLLECTION,
            prefetch=[
                models.Prefetch(query=dense["query"], using="dense", limit=dense["limit"]),
                models.Prefetch(query=words, using="lexical", limit=lexical["limit"]),
            ],
            query=models.FusionQuery(fusion=models.Fusion.RRF),
            limit=body["limit"],
            with_payload=True,
        )
        times.append((perf_counter() - started) * 1000)
    return times


def _answer(http: HTTPConnection, method: str, path: str, body: str) -> Any:
    """The result of a request to the collection. Raises ValueError if it was refused."""
    http.request(method, f"/collections/{COLLECTION}{path}", body, {"content-type": "application/json"})
    answer = http.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise ValueError(text.decode())
    return json.loads(text)["result"]


def _timed(http: HTTPConnection, body: str) -> float:
    started = perf_counter()
    found = _answer(http, "POST", "/points/query", body)["points"]
    seconds = perf_counter() - started
    assert len(found) == LIMIT
    return seconds * 1000


@contextmanager
def _engine(shard: Path) -> Iterator[Callable[[dict[str, Any]], float]]:
    """The engine in a process of its own: a query's body in, milliseconds out."""
    command = [sys.executable, "-m", "bench.vector_engine", str(shard)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        assert process.stdin
        assert process.stdout
        stdin, stdout = process.stdin, process.stdout
        assert stdout.readline() == "ready\n"

        def ask(body: dict[str, Any]) -> float:
            stdin.write(json.dumps(body) + "\n")
            stdin.flush()
            return float(stdout.readline())

        yield ask
        stdin.close()


def _allocated(folder: Path) -> int:
    """Bytes that a folder takes on the disk; its files have holes."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
