"""Graphs and merged segments, built behind the server's back.

`optimize()` holds the interpreter for as long as it takes, so it never runs in the server. The shard is copied while
writers wait (a tenth of a second for 50,000 points), a niced child process optimises the copy, what was written
meanwhile is replayed on it, and it becomes the next generation. One collection at a time.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from embedded.qdrant.engine import EnginePanic
from embedded.qdrant.errors import ApiError
from embedded.qdrant.settings.config import CollectionConfig
from embedded.qdrant.shards import worker
from embedded.qdrant.shards.collection import Collection, JournalFull
from embedded.qdrant.shards.store import Store

Object = dict[str, Any]
log = logging.getLogger(__name__)

INDEXING_THRESHOLD_KB = 10_000
"""Qdrant's default: so much of vectors without an index is searched by a plain scan."""

LOOK_EVERY = 1.0
PATIENCE_SECONDS = 20.0
"""For so long a collection that is being written to is left alone, although it is due."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What of a collection decides whether it is worth optimising."""

    points: int
    unindexed: int
    """Vectors that are in no index, and those that points lack."""
    config: CollectionConfig

    @classmethod
    def of(cls, collection: Collection) -> "Figures":
        """Read them from the engine. Raises ApiError."""
        info = collection.info()
        vectors = info.points_count * len(collection.config.names())
        return cls(info.points_count, max(0, vectors - info.indexed_vectors_count), collection.config)


@dataclass(slots=True)
class Run:
    """One optimisation, as it is told to who asks."""

    points: int
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    steps: list[tuple[str, datetime]] = field(default_factory=list)
    finished: datetime | None = None
    status: Any = "optimizing"

    def step(self, name: str) -> None:
        """Note that a part of the work begins."""
        self.steps.append((name, datetime.now(UTC)))

    def printed(self) -> Object:
        """Qdrant's shape."""
        ends = [*(started for _, started in self.steps[1:]), self.finished]
        children = [_progress(name, start, end) for (name, start), end in zip(self.steps, ends, strict=True)]
        began = self.steps[0][1]
        return {
            "uuid": self.id,
            "optimizer": "indexing",
            "status": self.status,
            "segments": [{"uuid": self.id, "points_count": self.points}],
            "progress": {**_progress("Segment Optimizing", began, self.finished), "children": children},
        }


@dataclass(slots=True)
class State:
    """What is remembered about a collection between two looks."""

    before: Figures
    """When it was last optimised, or first seen."""
    operations: int = -1
    changed_at: float = 0.0
    due_since: float | None = None
    not_before: float = 0.0
    most_points: int = 0
    task: asyncio.Task[None] | None = None
    run: Run | None = None
    error: str | None = None
    completed: deque[Run] = field(default_factory=lambda: deque(maxlen=16))


class Optimizer:
    """Looks after all collections of a store."""

    def __init__(self, store: Store, quiet: float = 2.0) -> None:
        """`quiet` is for how many seconds nobody must have written to a collection that is due."""
        self._store = store
        self._quiet = quiet
        self._states: dict[Collection, State] = {}

    async def run_for_ever(self) -> None:
        """Look again and again, optimise what is due. When cancelled, the child is killed and its copy removed."""
        while True:
            await asyncio.sleep(min(LOOK_EVERY, max(self._quiet, 0.02)))
            with contextlib.suppress(ApiError):
                await self._look()

    def status(self, collection: Collection) -> tuple[str, Any]:
        """Qdrant's `status` and `optimizer_status` of a collection."""
        if collection.unwritable:
            return "red", {"error": collection.unwritable}
        state = self._state(collection)
        told = {"error": state.error} if state.error else "ok"
        return ("yellow" if state.run or self._due(collection, state) else "green"), told

    def report(self, collection: Collection, wanted: set[str]) -> Object:
        """The answer of `GET /collections/{name}/optimizations`, with those of its optional parts that are wanted.

        The engine says of no segment how many points it has, so the shard is shown as one.
        """
        state = self._state(collection)
        waiting = state.run is None and self._due(collection, state)
        points, segment = collection.info().points_count, str(uuid.uuid5(uuid.NAMESPACE_URL, str(collection.place)))
        segments = [{"uuid": segment, "points_count": points}]
        idle = [] if waiting or state.run else segments
        shown: Object = {
            "summary": {
                "queued_optimizations": int(waiting),
                "queued_segments": int(waiting),
                "queued_points": points if waiting else 0,
                "idle_segments": len(idle),
            },
            "running": [state.run.printed()] if state.run else [],
        }
        if "queued" in wanted:
            shown["queued"] = [{"optimizer": "indexing", "segments": segments}] if waiting else []
        if "completed" in wanted:
            shown["completed"] = [run.printed() for run in state.completed]
        if "idle_segments" in wanted:
            shown["idle_segments"] = idle
        return shown

    async def cancel(self, collection: Collection) -> None:
        """Stop an optimisation that is under way; what was built is thrown away."""
        task = self._state(collection).task
        if task is not None and not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def forget(self, collection: Collection) -> None:
        """Look at the collection as if for the first time: it holds something else now."""
        self._states.pop(collection, None)

    async def _look(self) -> None:
        known = set(self._store.collections.values())
        for gone in [collection for collection in self._states if collection not in known]:
            del self._states[gone]
        for collection in known:
            if collection.unreadable or collection.unwritable or collection.upkeep.locked():
                continue
            if self._ready(collection, self._state(collection)):
                await self._optimize(collection)

    def _ready(self, collection: Collection, state: State) -> bool:
        now = time.monotonic()
        if collection.operations != state.operations:
            state.operations, state.changed_at = collection.operations, now
        if now < state.not_before or not self._due(collection, state):
            state.due_since = None
            return False
        state.due_since = state.due_since or now
        return now - state.changed_at >= self._quiet or now - state.due_since >= PATIENCE_SECONDS

    def _due(self, collection: Collection, state: State) -> bool:
        now, before, config = Figures.of(collection), state.before, collection.config
        state.most_points = max(state.most_points, now.points)
        if (threshold := config.optimizers.get("indexing_threshold", INDEXING_THRESHOLD_KB)) == 0:
            return False
        if _built(config) != _built(before.config) and now.points:
            return True
        largest = max((params.size for params in config.vectors.values()), default=0) * 4
        if (now.unindexed - before.unindexed) * largest > threshold * 1024:
            return True
        gone = state.most_points - now.points
        share = config.optimizers.get("deleted_threshold", 0.2)
        return gone > config.optimizers.get("vacuum_min_vector_number", 1000) and gone > share * state.most_points

    def _state(self, collection: Collection) -> State:
        if collection not in self._states:
            self._states[collection] = State(Figures(0, 0, collection.config))
        return self._states[collection]

    async def _optimize(self, collection: Collection) -> None:
        state = self._state(collection)
        state.run = Run(Figures.of(collection).points)
        state.task = asyncio.create_task(self._attempt(collection, state, state.run))
        try:
            await asyncio.shield(state.task)
        except asyncio.CancelledError:
            # Either this one run was cancelled, or the server stops and the run has to go first.
            if not state.task.done():
                await self.cancel(collection)
                raise
        finally:
            state.run, state.task = None, None

    async def _attempt(self, collection: Collection, state: State, run: Run) -> None:
        try:
            async with collection.upkeep:
                await self._next_generation(collection, run)
            state.error, run.status = None, "done"
        except JournalFull as full:
            run.status = {"cancelled": str(full)}
            state.not_before = time.monotonic() + PATIENCE_SECONDS
            log.info("collection %s: optimising was given up: %s", collection.name, full)
            return
        except (ApiError, EnginePanic, OSError) as error:
            if collection.closed:
                return
            state.error = f"optimising failed, the collection is as it was: {error}"
            run.status = {"error": state.error}
            log.error("collection %s: %s", collection.name, state.error)
        finally:
            collection.drop_journal()
            run.finished = datetime.now(UTC)
            state.completed.appendleft(run)
        # Also after a failure: it is tried again when as much again has changed.
        with contextlib.suppress(ApiError):
            state.before = Figures.of(collection)
            state.most_points = state.before.points

    async def _next_generation(self, collection: Collection, run: Run) -> None:
        config, started = collection.config, time.monotonic()
        with self._store.scratch() as copy:
            run.step("copy")
            await collection.copy(copy, journal=True)
            run.step("optimize")
            outcome = await worker.run("optimize", copy, config)
            if outcome.error is not None:
                raise ApiError(500, outcome.error)
            if not outcome.changed and _built(config) == _built(self._state(collection).before.config):
                return
            run.step("catch up")
            await collection.adopt(copy, lambda record: self._store.replace_record(collection, record))
        log.info(
            "collection %s: %d points optimised in %.1f s", collection.name, run.points, time.monotonic() - started
        )


def _built(config: CollectionConfig) -> CollectionConfig:
    """The part of a configuration that says how segments are built."""
    return msgspec.structs.replace(config, indexes={}, strict={}, wal={})


def _progress(name: str, started: datetime, finished: datetime | None) -> Object:
    shown: Object = {"name": name, "started_at": started.isoformat()}
    if finished is not None:
        shown |= {"finished_at": finished.isoformat(), "duration_sec": (finished - started).total_seconds()}
    return shown
