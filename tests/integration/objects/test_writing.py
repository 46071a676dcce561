"""An object is there whole or not at all, in a folder and in S3, whatever becomes of who writes it."""

from __future__ import annotations

import hashlib
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from objects.places import Place
from objects.store import ObjectStore
from tests.support.object_stores import MEBIBYTE, NOW, Broken, breaking_off, content, keys, noise, program


@pytest.mark.parametrize("chunks", [[], [b""], [b"a"], [b"a", b"", b"bc"]])
def test_an_object_reads_as_it_was_written(store: ObjectStore, chunks: list[bytes]) -> None:
    assert store.put("points/one/manifest.json", iter(chunks)) == len(b"".join(chunks))
    assert content(store, "points/one/manifest.json") == b"".join(chunks)


def test_a_large_object_comes_and_goes_in_pieces(store: ObjectStore) -> None:
    assert store.put("large", noise(40)) == 40 * MEBIBYTE
    expected, read, longest = hashlib.sha256(), hashlib.sha256(), 0
    for chunk in noise(40):
        expected.update(chunk)
    for piece in store.read("large"):
        read.update(piece)
        longest = max(longest, len(piece))
    assert read.digest() == expected.digest()
    assert longest <= 4 * MEBIBYTE
    assert [found.size for found in store.list()] == [40 * MEBIBYTE]


@pytest.mark.parametrize("size", [0, 3, 20])
def test_a_source_that_breaks_off_leaves_what_was_there(store: ObjectStore, size: int) -> None:
    store.put("a/old", [b"old"])
    for key in ("a/old", "b/new"):
        with pytest.raises(Broken, match="broke off"):
            store.put(key, breaking_off(size))
    assert content(store, "a/old") == b"old"
    assert keys(store) == ["a/old"]
    assert store.sweep(NOW) == 0, "nothing was left behind"


def test_an_error_of_the_system_that_the_source_raises_is_not_the_stores(store: ObjectStore) -> None:
    def source() -> Iterator[bytes]:
        yield b"some"
        raise OSError(28, "no space left where the dump comes from")

    with pytest.raises(OSError, match="where the dump comes from"):
        store.put("dump", source())


def test_a_writer_that_is_killed_leaves_nothing_that_is_listed_and_is_swept(
    store: ObjectStore, place: Place, request: pytest.FixtureRequest
) -> None:
    store.put("points/x/dump", [b"old"])
    action = """
def chunks():
    for _ in range(40):
        yield bytes(1 << 20)
    print("writing", flush=True)
    sys.stdin.read()
store.put("points/x/dump", chunks())
"""
    with program(action, place, request) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        if place.folder:
            assert store.sweep(NOW) == 0, "what a living process writes was swept away"
        assert keys(store) == ["points/x/dump"]
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert keys(store) == ["points/x/dump"]
    assert content(store, "points/x/dump") == b"old"
    if place.folder:
        assert store.sweep(timedelta(days=1)) == 0, "it is not a day old"
    assert store.sweep(NOW) == 1
    assert store.sweep(NOW) == 0
    assert content(store, "points/x/dump") == b"old"


def test_writers_at_once_do_not_mix(store: ObjectStore) -> None:
    everybody = threading.Barrier(6)

    def write(number: int) -> None:
        everybody.wait()
        store.put("same", iter([bytes([number]) * 100_000] * 5))
        store.put(f"folder/{number}/own", [b"own"])
        store.delete([f"folder/{number}/own"])

    with ThreadPoolExecutor(6) as pool:
        for result in [pool.submit(write, number) for number in range(6)]:
            result.result()
    assert keys(store) == ["same"]
    assert content(store, "same") in [bytes([number]) * 500_000 for number in range(6)]


def test_a_write_keeps_little_in_memory(place: Place, request: pytest.FixtureRequest) -> None:
    action = """
store.put("small", [b"x"])
before = memory()
store.put("large", (bytes(1 << 20) for _ in range(120)))
print(memory() - before)
"""
    with program(action, place, request) as writer:
        out, _ = writer.communicate()
    assert int(out) < 120, "MiB; four parts of 16 and what sending them takes"
