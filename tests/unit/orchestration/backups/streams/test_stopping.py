"""When a reader, a source or a store stops, everything stops, and nothing half-written is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from objects.folder import FolderObjects
from orchestration.backups.recovery_point import BackupError
from orchestration.backups.streams import blobs, encryption
from orchestration.backups.streams.encryption import Keys
from tests.support.backups.chunks import DATA, Source, endless

CHAINS: list[Callable[[Keys, Iterable[bytes]], Iterator[bytes]]] = [
    lambda keys, chunks: blobs.compressed(chunks),
    lambda keys, chunks: keys.encrypted(chunks),
    lambda keys, chunks: keys.encrypted(blobs.compressed(chunks)),
    lambda keys, chunks: blobs.decompressed(blobs.compressed(chunks)),
    lambda keys, chunks: blobs.decompressed(keys.decrypted(keys.encrypted(blobs.compressed(chunks)))),
]


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("taken", [1, 5])
def test_a_reader_that_stops_stops_everything(
    keys: Keys, chain: Callable[[Keys, Iterable[bytes]], Iterator[bytes]], taken: int
) -> None:
    source = Source(endless())
    stream = chain(keys, source)
    for _ in range(taken):
        assert next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert source.closed


@pytest.mark.parametrize("chain", CHAINS)
def test_what_the_source_raises_comes_out_as_it_is(
    keys: Keys, chain: Callable[[Keys, Iterable[bytes]], Iterator[bytes]]
) -> None:
    class Broken(Exception):
        pass

    def source() -> Iterator[bytes]:
        yield DATA
        yield b""
        raise Broken("pg_dump failed")

    with pytest.raises(Broken, match="pg_dump failed"):
        list(chain(keys, source()))


@pytest.mark.parametrize("encrypt", [False, True])
def test_a_source_that_fails_leaves_no_object(store: FolderObjects, keys: Keys, encrypt: bool) -> None:
    def source() -> Iterator[bytes]:
        yield DATA
        raise BackupError("pg_dump failed")

    chunks = source()
    with pytest.raises(BackupError, match="pg_dump failed"):
        blobs.write_blob(store, "dump" + ".age" * encrypt, chunks, keys=keys if encrypt else None)
    assert list(store.list()) == []


def test_a_store_that_fails_closes_the_source(store: FolderObjects, keys: Keys) -> None:
    class Full(FolderObjects):
        def put(self, key: str, chunks: Iterable[bytes]) -> int:
            next(iter(chunks))
            raise OSError("full")

    source = Source(endless())
    with pytest.raises(OSError, match="full"):
        blobs.write_blob(Full("full", Path("/nowhere")), "dump.age", source, keys=keys)
    assert source.closed


def test_encryption_keeps_little_ahead(keys: Keys) -> None:
    """The thread does not run ahead of a slow reader."""
    taken = 0

    def source() -> Iterator[bytes]:
        nonlocal taken
        for chunk in endless():
            taken += 1
            yield chunk

    stream = keys.encrypted(source())
    for _ in range(3):
        next(stream)
    assert taken <= 3 + 2 * encryption._AHEAD
    stream.close()  # type: ignore[attr-defined]
