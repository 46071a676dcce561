"""One collection: its shard of the engine, its generation on disk, its flushes.

On disk a collection is a folder with one subfolder, the generation of its shard that counts. An optimised copy or a
restored snapshot becomes the next generation: made beside it, put in force by one entry of the registry.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import qdrant_edge as edge

from embedded.qdrant.engine import EnginePanic, guarded
from embedded.qdrant.errors import DISK_FULL, ApiError, from_os, not_found, service_error
from embedded.qdrant.settings.config import SEARCH_THREADS, CollectionConfig
from embedded.qdrant.settings.validate import EngineVector, PointId
from embedded.qdrant.shards import worker
from embedded.qdrant.shards.files import (
    copy_tree,
    filled_size,
    free_space,
    remove_tree,
    require_room,
    sync_folder,
    sync_tree,
)

T = TypeVar("T")
log = logging.getLogger(__name__)

JOURNAL_POINTS = 100_000
"""How many written points a journal holds: of 384 dimensions some 300 MB."""

REST = 5
"""With so few operations left to replay, writers are made to wait for the rest."""


class CollectionRecord(msgspec.Struct, frozen=True):
    """What the registry keeps about a collection."""

    folder: str
    config: CollectionConfig
    generation: int = 1
    metadata: dict[str, Any] | None = None


def generation_folder(folder: Path, generation: int) -> Path:
    """Where one generation of a collection's shard lies."""
    return folder / f"generation-{generation:06d}"


def load_shard(place: Path) -> edge.EdgeShard:
    """Open the shard in this folder. Raises ApiError or EnginePanic."""
    if not any((place / "wal").glob("*")):
        # Without its log a shard loads, and from then on silently ignores updates of existing points.
        raise service_error(f"{place / 'wal'} is missing or empty")
    return guarded(lambda: edge.EdgeShard.load(str(place)))


def _moved(made: Path, place: Path) -> edge.EdgeShard:
    made.rename(place)
    sync_folder(place.parent)
    return load_shard(place)


def create_shard(folder: Path, config: CollectionConfig) -> None:
    """Write the first generation of a collection, empty, and make it last."""
    folder.mkdir(parents=True)
    place = generation_folder(folder, 1)
    guarded(lambda: _create(place, config))
    sync_tree(folder)


def _create(place: Path, config: CollectionConfig) -> None:
    given = config.for_engine()
    if given is None:
        # The engine makes no shard without a vector, but one that has lost its only vector is sound.
        nothing = {"none": edge.EdgeSparseVectorParams()}
        shard = edge.EdgeShard.create(
            str(place), edge.EdgeConfig(sparse_vectors=nothing, max_search_threads=SEARCH_THREADS)
        )
        shard.update(edge.UpdateOperation.delete_vector_name("none"))
    else:
        shard = edge.EdgeShard.create(str(place), given)
    shard.flush()
    shard.close()


class JournalFull(Exception):
    """More was written than is worth keeping until a copy is ready."""


class Journal:
    """The operations that a copy of the shard lacks, in their order.

    They are kept in memory only: until the copy is put in force, the shard that it was taken of has them all.
    """

    def __init__(self) -> None:
        self.operations: list[edge.UpdateOperation] = []
        self.full = False
        self._points = 0

    def add(self, operation: edge.UpdateOperation, points: int) -> None:
        """Note an operation. Past the limit the journal gives up, and holds nothing any more."""
        self._points += points
        if self._points > JOURNAL_POINTS:
            self.full = True
            self.operations.clear()
        if not self.full:
            self.operations.append(operation)

    def taken(self) -> list[edge.UpdateOperation]:
        """Take what is there. Raises JournalFull if it gave up."""
        if self.full:
            raise JournalFull(f"more than {JOURNAL_POINTS} points were written while the copy was being made")
        taken, self.operations = self.operations, []
        return taken


def _apply_again(shard: edge.EdgeShard, operation: edge.UpdateOperation) -> None:
    try:
        guarded(lambda: shard.update(operation))
    except ApiError as error:
        log.debug("refused again: %s", error)


def _close(name: str, shard: edge.EdgeShard) -> None:
    try:
        guarded(shard.close)
    except Exception as error:
        log.error("collection %s did not close cleanly: %s", name, error)


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
        self.closed = False
        self.operations = 0
        """How many writes were applied since the start."""
        self.upkeep = asyncio.Lock()
        """Held by whoever makes the next generation."""
        self._reserve = reserve
        self._shard: edge.EdgeShard | None = None
        self._dirty = False
        self._files = asyncio.Lock()
        self._writable = asyncio.Event()
        self._writable.set()
        self._journal: Journal | None = None

    @property
    def place(self) -> Path:
        """The folder of the generation that counts."""
        return generation_folder(self.folder, self.record.generation)

    @property
    def config(self) -> CollectionConfig:
        """What the collection was created with."""
        return self.record.config

    def open(self) -> None:
        """Load the shard. A failure is kept, logged and told to whoever asks; other collections go on."""
        place = self.place
        try:
            if free_space(self.folder) < self._reserve:
                # What kills a process on a full disk had better not be this one.
                worker.rehearse(place, self.config)
            self._shard = load_shard(place)
        except Exception as error:
            full = isinstance(error, ApiError) and error.status == DISK_FULL
            way = "make room" if full else "put them back from a backup"
            self.unreadable = (
                f"Collection `{self.name}` cannot be opened: {error}. Its files under {place} were left as "
                f"they are; {way} and restart, or delete it and build it again"
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

    async def writable(self) -> None:
        """Wait while the shard's files are being copied. An `update` that follows at once does not wait again."""
        while not self._writable.is_set():
            await self._writable.wait()

    async def update(self, operation: edge.UpdateOperation, points: int = 1) -> int:
        """Apply an operation whose every value has been validated, and that has about so many points.

        Gives its number. When this returns, the operation is in the engine's log and outlives the process; a flush
        makes it outlive the machine. Raises ApiError. Waits while the shard's files are being copied.
        """
        await self.writable()
        if self.unwritable:
            raise service_error(self.unwritable)
        shard = self._opened()
        free = require_room(self.folder, self._reserve)
        if self._journal is not None:
            # Even if the engine refuses it half-way: it will refuse it half-way again.
            self._journal.add(operation, points)
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
        self.operations += 1
        if free < 2 * self._reserve:
            # What only the log has is written again at the next start, and there may be no room for it by then.
            self.flush()
        return self.operations

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
            raise not_found(f'Vector with name "{name}" for point {point_id}')
        return vector

    async def flush_in_background(self) -> None:
        """Make all writes so far outlive the machine.

        The slow part, waiting for the disk, happens in a thread that leaves the interpreter free; the
        engine's own flush, which does not, then finds little left to write.
        """
        if not self._dirty or self._shard is None:
            return
        async with self._files:
            await asyncio.to_thread(sync_tree, self.place)
            self.flush()

    async def copy(self, target: Path, *, journal: bool = False) -> None:
        """Copy the shard's files to `target`. Readers go on; writers wait, and then go on into a journal if wanted.

        Raises ApiError when there is no room for a second copy.
        """
        async with self._files:
            self._writable.clear()
            try:
                self.read(lambda shard: shard.flush())
                require_room(self.folder, self._reserve + await asyncio.to_thread(filled_size, self.place))
                if journal:
                    self._journal = Journal()
                await asyncio.to_thread(copy_tree, self.place, target)
            except OSError as error:
                raise from_os(error) from error
            finally:
                self._writable.set()

    async def adopt(self, made: Path, commit: Callable[[CollectionRecord], None]) -> None:
        """Let the shard in the folder `made`, with the journal replayed, be the next generation.

        `commit` writes the changed record into the registry. Readers see the old shard, then the new one. If anything
        fails the old one stays. Raises ApiError.
        """
        old, number = self.place, self.record.generation + 1
        place = generation_folder(self.folder, number)
        await asyncio.to_thread(remove_tree, place)
        await asyncio.to_thread(sync_tree, made)
        shard: edge.EdgeShard | None = None
        try:
            shard = _moved(made, place)
            await self._catch_up(shard, place)
            async with self._files:
                self._writable.clear()
                try:
                    await self._replay(shard, place)
                    if self.closed:
                        raise not_found(f"Collection `{self.name}` doesn't exist!")
                    guarded(shard.flush)
                    commit(msgspec.structs.replace(self.record, generation=number))
                    before, self._shard = self._shard, shard
                finally:
                    self._writable.set()
        except BaseException:
            if shard is not None:
                _close(self.name, shard)
            await asyncio.to_thread(remove_tree, place)
            raise
        self._journal = None
        self.unreadable = self.unwritable = None
        if before is not None:
            _close(self.name, before)
        await asyncio.to_thread(remove_tree, old)

    def drop_journal(self) -> None:
        """Forget the journal: no copy is waiting for it any more."""
        self._journal = None

    async def _catch_up(self, shard: edge.EdgeShard, place: Path) -> None:
        """Apply the journal, round after round, until it is short or gets no shorter: writers may be as quick."""
        before = JOURNAL_POINTS
        while self._journal is not None and REST < (left := len(self._journal.operations)) <= before / 2:
            before = left
            await self._replay(shard, place)

    async def _replay(self, shard: edge.EdgeShard, place: Path) -> None:
        """Apply what is in the journal, with turns for others after each operation."""
        for operation in self._journal.taken() if self._journal is not None else ():
            _apply_again(shard, operation)
            await asyncio.sleep(0)
        await asyncio.to_thread(sync_tree, place)

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
        self.closed = True
        shard, self._shard = self._shard, None
        if shard is not None:
            _close(self.name, shard)

    def _opened(self) -> edge.EdgeShard:
        if self._shard is None:
            # Deleted while a request was under way, if it is not for the reason that is known.
            missing = not_found(f"Collection `{self.name}` doesn't exist!")
            raise service_error(self.unreadable) if self.unreadable else missing
        return self._shard
