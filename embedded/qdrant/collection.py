"""One collection: its shard of the engine, its generation on disk, its flushes.

On disk a collection is a folder with one subfolder for each generation of its shard. Today there is one
generation; an optimised copy, or a restored snapshot, becomes the next one, and the registry says which one
counts.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import qdrant_edge as edge

from embedded.qdrant.config import CollectionConfig
from embedded.qdrant.engine import EnginePanic, guarded
from embedded.qdrant.errors import bad_request, not_found, service_error
from embedded.qdrant.files import require_room, sync_tree
from embedded.qdrant.validate import EngineVector, PointId

T = TypeVar("T")
log = logging.getLogger(__name__)


class CollectionRecord(msgspec.Struct, frozen=True):
    """What the registry keeps about a collection."""

    folder: str
    config: CollectionConfig
    generation: int = 1
    metadata: dict[str, Any] | None = None


def generation_folder(folder: Path, generation: int) -> Path:
    """Where one generation of a collection's shard lies."""
    return folder / f"generation-{generation:06d}"


def create_shard(folder: Path, config: CollectionConfig) -> None:
    """Write the first generation of a collection, empty, and make it last."""
    folder.mkdir(parents=True)
    place = generation_folder(folder, 1)
    guarded(lambda: _create(place, config))
    sync_tree(folder)


def _create(place: Path, config: CollectionConfig) -> None:
    shard = edge.EdgeShard.create(str(place), config.for_engine())
    shard.flush()
    shard.close()


class Collection:
    """A collection that is open, or that could not be opened and says why.

    Everything runs on the event loop's thread. The engine holds the interpreter for the whole of every call,
    so threads would gain nothing and cost locks.
    """

    def __init__(self, name: str, folder: Path, record: CollectionRecord, reserve: int) -> None:
        self.name = name
        self.folder = folder
        self.record = record
        self.unreadable: str | None = None
        self.unwritable: str | None = None
        self._reserve = reserve
        self._shard: edge.EdgeShard | None = None
        self._dirty = False
        self._operations = 0

    @property
    def config(self) -> CollectionConfig:
        """What the collection was created with."""
        return self.record.config

    @property
    def operations(self) -> int:
        """How many operations were applied since the start; the last one's number."""
        return self._operations

    def open(self) -> None:
        """Load the shard. A failure is kept, logged and told to whoever asks; other collections go on."""
        place = generation_folder(self.folder, self.record.generation)
        try:
            if not any((place / "wal").glob("*")):
                # Without its log a shard loads, and from then on silently ignores updates of existing points.
                raise service_error(f"{place / 'wal'} is missing or empty")
            self._shard = guarded(lambda: edge.EdgeShard.load(str(place)))
        except Exception as error:
            self.unreadable = (
                f"Collection `{self.name}` cannot be opened: {error}. Its files under {place} were left as "
                "they are; put them back from a backup and restart, or delete it and build it again"
            )
            log.error("%s", self.unreadable)

    def read(self, call: Callable[[edge.EdgeShard], T]) -> T:
        """Run a call that changes nothing; raises ApiError.

        The engine's classes refuse some values when they are made, so make them inside the call.
        """
        shard = self._opened()
        try:
            return guarded(lambda: call(shard))
        except EnginePanic as panic:
            log.error("collection %s: the engine broke while reading: %s", self.name, panic)
            raise service_error(f"the engine broke while reading collection `{self.name}`: {panic}") from panic

    def update(self, operation: edge.UpdateOperation) -> int:
        """Apply an operation whose every value has been validated; gives its number.

        When this returns, the operation is in the engine's log and outlives the process; a flush makes it
        outlive the machine. Raises ApiError.
        """
        if self.unwritable:
            raise service_error(self.unwritable)
        shard = self._opened()
        require_room(self.folder, self._reserve)
        self._dirty = True
        try:
            guarded(lambda: shard.update(operation))
        except EnginePanic as panic:
            # The operation may be in the log already, where it would break the next load as well.
            self.unwritable = (
                f"the engine broke while writing to collection `{self.name}`: {panic}. It takes no more "
                "writes; build it again under another name while it can still be read"
            )
            log.error("%s", self.unwritable)
            raise service_error(self.unwritable) from panic
        self._operations += 1
        return self._operations

    def info(self) -> Any:
        """The engine's own figures."""
        return self.read(lambda shard: shard.info())

    def require_points(self, ids: list[PointId]) -> None:
        """Raise ApiError if a point is not there.

        The engine would change those that are there, and only then complain.
        """
        found = {str(point.id) for point in self.read(lambda shard: shard.retrieve(list(ids), False, False))}
        for point_id in ids:
            if str(point_id) not in found:
                raise not_found(f"No point with id {point_id} found")

    def stored_vector(self, point_id: PointId, name: str) -> EngineVector:
        """A point's vector, for queries by id."""
        records = self.read(lambda shard: shard.retrieve([point_id], False, [name]))
        if not records:
            raise not_found(f"No point with id {point_id} found")
        vectors: Any = records[0].vector
        vector = vectors.get(name) if isinstance(vectors, dict) else vectors
        if vector is None:
            raise bad_request(f"point {point_id} has no vector `{name or '(default)'}`")
        return vector

    async def flush_in_background(self) -> None:
        """Make all writes so far outlive the machine.

        The slow part, waiting for the disk, happens in a thread that leaves the interpreter free; the
        engine's own flush, which does not, then finds little left to write.
        """
        if not self._dirty or self._shard is None:
            return
        await asyncio.to_thread(sync_tree, self.folder)
        self.flush()

    def flush(self) -> None:
        """Make all writes so far outlive the machine, now. A failure is logged and tried again next time."""
        if not self._dirty or self._shard is None:
            return
        try:
            self.read(lambda shard: shard.flush())
            self._dirty = False
        except Exception as error:
            log.error("collection %s could not be flushed, will try again: %s", self.name, error)

    def close(self) -> None:
        """Flush and let go of the files."""
        shard, self._shard = self._shard, None
        if shard is not None:
            try:
                guarded(shard.close)
            except Exception as error:
                log.error("collection %s did not close cleanly: %s", self.name, error)

    def _opened(self) -> edge.EdgeShard:
        if self._shard is None:
            # Deleted while a request was under way, if it is not for the reason that is known.
            missing = not_found(f"Collection `{self.name}` doesn't exist!")
            raise service_error(self.unreadable) if self.unreadable else missing
        return self._shard
