"""Objects of recovery points as streams: compressed, encrypted, hashed and written in one go, in bounded memory.

Every function here takes and gives chunks of bytes, so they chain. Closing a generator closes what it reads from.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from objects.store import ObjectMissing, ObjectStore
from orchestration.backups.recovery_point import BackupError, Blob, PointDamaged
from orchestration.backups.streams.encryption import Keys, WrongKey
from orchestration.backups.streams.parallel import ahead
from orchestration.backups.streams.zstd_frames import FrameEnd, NoFrame

_PIECE = 1 << 20
_M_MMAP_THRESHOLD = -3  # malloc.h of glibc
_PART = 8 * _PIECE
# A thread of zstd takes some 20 MiB, and three are faster than any server hands out rows.
_THREADS = 4
# Of 2 processors pg_dump and the server take one. For each GB of conversations level 3 takes 5.3 s of the other, and makes
# 0.82 of what gzip makes; level 2 takes 3.8 s and makes 0.90; level 1 takes 2.9 s and makes 1.14.
_LEVEL = 2
_WINDOW = 1 << 23  # what levels up to 19 use; a damaged header may ask for gigabytes

Progress = Callable[[int], object]
"""Is told how many bytes went through since it was told last."""


def _give_back_large_blocks() -> None:
    """Have the C library return the parts of an upload (16 MiB and more) to the system when they are freed.

    By itself glibc raises that limit with the first large block, and then keeps what the parts leave: 40 MiB in a dump of
    4 GB. Pieces of a MiB stay below the limit: to map and unmap each made a dump a third slower.
    """
    with suppress(AttributeError, OSError):  # another C library has no such switch
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _PART)


def compressed(chunks: Iterable[bytes], level: int = _LEVEL) -> Iterator[bytes]:
    """One zstd frame with a checksum, as `zstd -d` reads it."""
    zstandard = _zstandard()
    with _closing(chunks):
        stream = zstandard.ZstdCompressor(
            level=level, threads=min(_THREADS, os.cpu_count() or 1), write_checksum=True
        ).compressobj()
        for chunk in pieces(chunks):
            if packed := stream.compress(chunk):
                yield packed
        yield stream.flush()


def decompressed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The content of one zstd frame, in pieces of at most a MiB. Raises PointDamaged for anything else or less."""
    zstandard = _zstandard()
    with _closing(chunks):
        source = _FrameReader(pieces(chunks))
        try:
            reader = zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(source, read_size=_PIECE)
            while piece := reader.read(_PIECE):
                yield piece
            source.read_on()
        except (zstandard.ZstdError, NoFrame) as error:
            raise PointDamaged(f"what was compressed is damaged ({error})") from None
        if not source.end.whole:
            raise PointDamaged("what was compressed is cut short")
        if source.end.left_over:
            raise PointDamaged(f"{source.end.left_over} bytes come after the end of what was compressed")


def write_blob(
    store: ObjectStore,
    key: str,
    chunks: Iterable[bytes],
    *,
    keys: Keys | None = None,
    compress: bool = True,
    progress: Progress | None = None,
) -> Blob:
    """Write an object of a point; with keys, encrypted, and then `key` ends in `.age`.

    What `chunks` raises comes out as it is, and then there is no object. `progress` is told raw bytes.
    """
    if key.endswith(".age") != bool(keys):
        raise ValueError(f"{key}: an object's key ends in .age when, and only when, it is encrypted")
    _give_back_large_blocks()
    raw = _Counted(chunks, progress)
    stream: Iterator[bytes] = compressed(raw) if compress else pieces(raw)
    if keys:
        stream = keys.encrypted(stream)
    stored = _Counted(stream, hashed=True)
    with _closing(chunks), _closing(stream):
        store.put(key, stored)
    return Blob(key, stored.size, stored.sha256, raw.size, compress)


def read_blob(
    store: ObjectStore, blob: Blob, *, keys: Keys | None = None, progress: Progress | None = None
) -> Iterator[bytes]:
    """The raw bytes of an object. `progress` is told raw bytes.

    Whether they are the right ones is known with the last of them: raises PointDamaged, naming the object, if it is
    missing, or is not what the manifest says; BackupError if it is encrypted and the key is missing or another one.
    """
    encrypted = blob.key.endswith(".age")
    if encrypted and not keys:
        raise BackupError(
            f"{store.url}/{blob.key} is encrypted; set BACKUP_KEY_FILE to a file with its key. Nothing was changed."
        )
    with _named(store, blob), _closing(store.read(blob.key)) as source:
        stored = _Counted(source, hashed=True)
        try:
            # Reading and hashing, decompressing, and what the caller does: each on a thread of its own.
            with _closing(ahead(stored)) as early:
                stream = keys.decrypted(early) if encrypted and keys else iter(early)
                if blob.compressed:
                    stream = decompressed(stream)
                with _closing(stream), _closing(ahead(stream)) as unpacked:
                    raw = _Counted(unpacked, progress)
                    yield from raw
        except WrongKey:
            # The bytes that say whose key it is may be damaged themselves: the hash knows.
            stored.read_on()
            stored.compare(blob)
            raise
        stored.read_on()
        stored.compare(blob)
        if raw.size != blob.raw_size:
            raise PointDamaged(f"it holds {raw.size} bytes and should hold {blob.raw_size}")


def hash_blob(store: ObjectStore, blob: Blob, progress: Progress | None = None) -> None:
    """Read an object and compare size and hash. `progress` is told bytes in the store. Raises PointDamaged."""
    with _named(store, blob), _closing(store.read(blob.key)) as source:
        stored = _Counted(source, progress, hashed=True)
        stored.read_on()
        stored.compare(blob)


def copy_blob(source: ObjectStore, target: ObjectStore, blob: Blob, progress: Progress | None = None) -> None:
    """Copy an object from store to store. `progress` is told bytes in the store.

    Raises PointDamaged if it is not what the manifest says; then the target has nothing of it.
    """

    def checked() -> Iterator[bytes]:
        with _named(source, blob), _closing(source.read(blob.key)) as chunks:
            stored = _Counted(chunks, progress, hashed=True)
            yield from stored
            stored.compare(blob)  # before the end of the stream, which is what makes it an object

    with _closing(checked()) as chunks:
        target.put(blob.key, chunks)


def pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of a MiB: small ones cost a call each, a large one its size at every step."""
    kept = bytearray()
    for chunk in chunks:
        if not kept and len(chunk) == _PIECE:
            yield chunk
            continue
        view = memoryview(chunk)
        while view:
            taken = view[: _PIECE - len(kept)]
            kept += taken
            view = view[len(taken) :]
            if len(kept) == _PIECE:
                yield bytes(kept)
                kept.clear()
    if kept:
        yield bytes(kept)


class _Counted:
    """Bytes as they go by, counted, and perhaps hashed."""

    def __init__(self, chunks: Iterable[bytes], progress: Progress | None = None, *, hashed: bool = False) -> None:
        self._chunks = iter(chunks)
        self._progress = progress
        self._hash = hashlib.sha256() if hashed else None
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self.size += len(chunk)
            if self._hash:
                self._hash.update(chunk)
            if self._progress:
                self._progress(len(chunk))
            yield chunk

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest() if self._hash else ""

    def read_on(self) -> None:
        """Take what nobody has taken."""
        for _ in self:
            pass

    def compare(self, blob: Blob) -> None:
        if self.size != blob.size:
            raise PointDamaged(f"it has {self.size} bytes and should have {blob.size}")
        if self.sha256 != blob.sha256:
            raise PointDamaged("its content does not have the hash that the manifest states")


class _FrameReader:
    """A file for zstandard to read from, that notices where the frame ends."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.end = FrameEnd()

    def read(self, size: int) -> bytes:
        """The next piece, which is at most `size` (_PIECE)."""
        piece = next(self._chunks, b"")
        self.end.feed(piece)
        return piece

    def read_on(self) -> None:
        while self.read(_PIECE):
            pass


@contextmanager
def _named(store: ObjectStore, blob: Blob) -> Generator[None]:
    """Tell what is wrong with an object in one sentence that names it."""
    try:
        yield
    except ObjectMissing:
        raise PointDamaged(f"{store.url}/{blob.key} is missing. Nothing was changed.") from None
    except WrongKey as error:
        raise WrongKey(f"{store.url}/{blob.key} cannot be decrypted: {error}. Nothing was changed.") from None
    except PointDamaged as error:
        raise PointDamaged(f"{store.url}/{blob.key} is damaged: {error}. Nothing was changed.") from None


@contextmanager
def _closing(chunks: Iterable[bytes]) -> Generator[Iterable[bytes]]:
    """Close a generator at the end, whatever happens: what it reads from must not wait for the garbage collector."""
    try:
        yield chunks
    finally:
        close = getattr(chunks, "close", None)
        if close:
            close()


def _zstandard() -> Any:
    return importlib.import_module("zstandard")
