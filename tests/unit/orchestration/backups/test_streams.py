"""Streams of backups: what comes back is what went in, or it is an error; and nothing runs on when a reader stops."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from objects.folder import FolderObjects
from orchestration.backups.recovery_point import (
    BackupError,
    Blob,
    FilesPart,
    Manifest,
    PointDamaged,
    PostgresPart,
    VectorsPart,
)
from orchestration.backups.streams import blobs, encryption
from orchestration.backups.streams.encryption import Keys, WrongKey, check_key, generate
from orchestration.backups.streams.zstd_frames import FrameEnd
from zhiyun.settings import BackupSettings, SettingsError

MEBIBYTE = 1 << 20
DATA = b"".join(
    f"{number}\t\xe4\xbd\xa0\xe5\xa5\xbd, \u95ee\u9898 {number * 7919 % 1000}\n".encode() for number in range(4000)
)


@pytest.fixture(scope="module")
def keys() -> Keys:
    loaded = Keys.load(BackupSettings(key=generate()))
    assert loaded
    return loaded


@pytest.fixture
def store(tmp_path: Path) -> FolderObjects:
    return FolderObjects("primary", tmp_path / "store")


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """The data in chunks of these sizes, over and over."""
    at, turn = 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        yield data[at : at + size]
        at, turn = at + size, turn + 1


def endless() -> Iterator[bytes]:
    chance = random.Random(1)
    while True:
        yield chance.randbytes(MEBIBYTE)


class Source:
    """An iterable of chunks that knows whether it was closed."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._chunks)

    def close(self) -> None:
        self.closed = True


sizes = st.lists(st.integers(0, 70_000), min_size=1, max_size=5).filter(any)


@settings(max_examples=60, deadline=None)
@given(sizes, st.integers(0, len(DATA)), sizes)
def test_compression_comes_back(first: list[int], length: int, second: list[int]) -> None:
    packed = b"".join(blobs.compressed(cut(DATA[:length], first)))
    assert b"".join(blobs.decompressed(cut(packed, second))) == DATA[:length]
    assert zstandard.ZstdDecompressor().stream_reader(packed).read() == DATA[:length]


@settings(max_examples=60, deadline=None)
@given(sizes, st.integers(0, len(DATA)), sizes)
def test_encryption_comes_back(keys: Keys, first: list[int], length: int, second: list[int]) -> None:
    packed = b"".join(keys.encrypted(cut(DATA[:length], first)))
    assert b"".join(keys.decrypted(cut(packed, second))) == DATA[:length]


@settings(max_examples=40, deadline=None)
@given(sizes, st.booleans(), st.booleans())
def test_an_object_comes_back(
    tmp_path_factory: pytest.TempPathFactory, keys: Keys, chunks: list[int], compress: bool, encrypt: bool
) -> None:
    store = FolderObjects("primary", tmp_path_factory.getbasetemp() / "objects")
    told: list[int] = []
    key = "points/x/dump" + ".age" * encrypt
    used = keys if encrypt else None
    blob = blobs.write_blob(store, key, cut(DATA, chunks), keys=used, compress=compress, progress=told.append)
    assert (blob.key, blob.raw_size, blob.compressed, sum(told)) == (key, len(DATA), compress, len(DATA))
    stored = store.stat(key)
    assert stored
    assert stored.size == blob.size
    told.clear()
    # Keys may be set for an object of the time before they were.
    assert b"".join(blobs.read_blob(store, blob, keys=keys, progress=told.append)) == DATA
    assert sum(told) == len(DATA)
    told.clear()
    blobs.hash_blob(store, blob, told.append)
    assert sum(told) == blob.size


def test_the_standard_programs_read_an_object(store: FolderObjects, tmp_path: Path) -> None:
    """Without this program: `age --decrypt --identity KEY_FILE < OBJECT | zstd -d`. age is not here; its library is."""
    import pyrage

    text = generate()
    keys = Keys.load(BackupSettings(key=text))
    blobs.write_blob(store, "dump.zst.age", [DATA], keys=keys)
    identity = pyrage.x25519.Identity.from_str(text.splitlines()[-1])
    packed = pyrage.decrypt(b"".join(store.read("dump.zst.age")), [identity])
    if not (zstd := shutil.which("zstd")):
        pytest.skip("the zstd program is not installed")
    assert subprocess.run([zstd, "-d"], input=packed, capture_output=True, check=True).stdout == DATA


@pytest.mark.parametrize("encrypt", [False, True])
@pytest.mark.parametrize("compress", [False, True])
def test_one_flipped_byte_anywhere_is_found(
    store: FolderObjects, tmp_path: Path, keys: Keys, compress: bool, encrypt: bool
) -> None:
    key, used = "points/x/dump" + ".age" * encrypt, keys if encrypt else None
    blob = blobs.write_blob(store, key, [DATA[:3000]], keys=used, compress=compress)
    whole = b"".join(store.read(key))
    chance = random.Random(1)
    for at in {
        *range(min(len(whole), 300)),
        *range(len(whole) - 50, len(whole)),
        *chance.sample(range(len(whole)), 100),
    }:
        flipped = bytes([whole[at] ^ 1 << chance.randrange(8)])
        (tmp_path / "store" / key).write_bytes(whole[:at] + flipped + whole[at + 1 :])
        for read in (lambda: list(blobs.read_blob(store, blob, keys=used)), lambda: blobs.hash_blob(store, blob)):
            with pytest.raises(PointDamaged) as raised:
                read()
            told_in_one_sentence(raised.value, f"{store.url}/{key}")


@pytest.mark.parametrize("encrypt", [False, True])
@pytest.mark.parametrize("compress", [False, True])
def test_an_object_that_is_cut_short_or_has_more_is_found(
    store: FolderObjects, keys: Keys, compress: bool, encrypt: bool
) -> None:
    key, used = "points/x/dump" + ".age" * encrypt, keys if encrypt else None
    blob = blobs.write_blob(store, key, [DATA[:3000]], keys=used, compress=compress)
    whole = b"".join(store.read(key))
    for content in [whole[:length] for length in range(0, len(whole), 23)] + [whole[:-1], whole + b"x", whole + whole]:
        store.put(key, [content])
        for read in (lambda: list(blobs.read_blob(store, blob, keys=used)), lambda: blobs.hash_blob(store, blob)):
            with pytest.raises(PointDamaged) as raised:
                read()
            told_in_one_sentence(raised.value, f"{store.url}/{key}")


def test_streams_find_damage_without_a_hash(keys: Keys) -> None:
    """Rubbish, a cut, and something after the end."""
    packed, sealed = b"".join(blobs.compressed([DATA])), b"".join(keys.encrypted([DATA]))
    for content in (b"", b"rubbish", packed[:-1], packed[:100], packed + b"x"):
        with pytest.raises(PointDamaged):
            list(blobs.decompressed([content]))
    for content in (b"", b"rubbish", sealed[:-1], sealed[:100], sealed + b"x"):
        with pytest.raises(PointDamaged):
            list(keys.decrypted([content]))


@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(1, 19), st.booleans(), st.booleans(), st.integers(0, 5000))
def test_the_end_of_a_frame_is_known(data: bytes, level: int, checksum: bool, told: bool, times: int) -> None:
    frame = zstandard.ZstdCompressor(level=level, write_checksum=checksum, write_content_size=told).compress(
        data * times
    )
    end = FrameEnd()
    for at in range(0, len(frame), 7):
        assert not end.whole
        end.feed(frame[at : at + 7])
    assert (end.whole, end.left_over) == (True, 0)
    end.feed(b"more")
    assert end.left_over == 4


def test_a_missing_object_and_a_hash_of_another_are_found(store: FolderObjects) -> None:
    blob = blobs.write_blob(store, "points/x/dump", [DATA])
    blobs.write_blob(store, "points/x/dump", [DATA[::-1]])
    with pytest.raises(PointDamaged, match="points/x/dump"):
        list(blobs.read_blob(store, blob))
    store.delete([blob.key])
    for read in (lambda: list(blobs.read_blob(store, blob)), lambda: blobs.hash_blob(store, blob)):
        with pytest.raises(PointDamaged, match="points/x/dump is missing"):
            read()


def test_much_that_was_packed_well_comes_in_small_pieces() -> None:
    """A gigabyte of zeros is some kilobytes; it must not be in memory at once."""
    packed = list(blobs.compressed(bytes(MEBIBYTE) for _ in range(1024)))
    assert sum(map(len, packed)) < MEBIBYTE
    total = 0
    for piece in blobs.decompressed([b"".join(packed)]):
        assert len(piece) <= MEBIBYTE
        total += len(piece)
    assert total == 1 << 30


def test_a_copy_is_checked_while_it_flows(store: FolderObjects, tmp_path: Path) -> None:
    target = FolderObjects("offsite", tmp_path / "offsite")
    blob = blobs.write_blob(store, "points/x/dump", [DATA])
    told: list[int] = []
    blobs.copy_blob(store, target, blob, told.append)
    assert sum(told) == blob.size
    assert b"".join(blobs.read_blob(target, blob)) == DATA
    target.delete([blob.key])
    for content in (b"".join(store.read(blob.key))[:-1] + b"x", b"short"):
        store.put(blob.key, [content])
        with pytest.raises(PointDamaged, match="store/points/x/dump is damaged"):
            blobs.copy_blob(store, target, blob)
        assert list(target.list()) == []


# When somebody stops.


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


def test_a_name_says_whether_an_object_is_encrypted(store: FolderObjects, keys: Keys) -> None:
    with pytest.raises(ValueError, match="age"):
        blobs.write_blob(store, "dump.age", [DATA])
    with pytest.raises(ValueError, match="age"):
        blobs.write_blob(store, "dump", [DATA], keys=keys)


# Keys.


def manifest(key: str) -> Manifest:
    blob = Blob("x", 0, "", 0)
    return Manifest(
        1, "2026-11-24", datetime.now(UTC), "hand", "0.1", PostgresPart((), blob, ""), VectorsPart("qdrant", "1", (), {}),
        FilesPart(blob, (), 0, 0), key=key,
    )  # fmt: skip


def other_keys() -> Keys:
    loaded = Keys.load(BackupSettings(key=generate()))
    assert loaded
    return loaded


def test_another_key_is_told_with_both_fingerprints(store: FolderObjects, keys: Keys) -> None:
    other = other_keys()
    check_key(keys, manifest(keys.fingerprint))
    check_key(None, manifest(""))
    check_key(keys, manifest(""))
    for used in (other, None):
        with pytest.raises(BackupError, match="BACKUP_KEY_FILE") as raised:
            check_key(used, manifest(keys.fingerprint))
        assert keys.fingerprint in str(raised.value)
        assert used is None or used.fingerprint in str(raised.value)


def test_an_object_of_another_key_is_not_called_damaged(store: FolderObjects, keys: Keys) -> None:
    other = other_keys()
    blob = blobs.write_blob(store, "dump.age", [DATA], keys=keys)
    with pytest.raises(WrongKey, match=other.fingerprint) as raised:
        list(blobs.read_blob(store, blob, keys=other))
    told_in_one_sentence(raised.value, f"{store.url}/dump.age", "BACKUP_KEY")
    with pytest.raises(BackupError, match="BACKUP_KEY_FILE"):
        list(blobs.read_blob(store, blob))


def test_a_key_file_is_read_with_its_comments(tmp_path: Path, keys: Keys) -> None:
    file = tmp_path / "key.txt"
    text = generate()
    file.write_text(text + "\n# a comment\n\n")
    loaded = Keys.load(BackupSettings(key_file=str(file)))
    assert loaded
    assert f"# public key: {loaded.fingerprint}\n" in text
    assert Keys.load(BackupSettings()) is None


def test_a_key_can_be_changed(tmp_path: Path, store: FolderObjects) -> None:
    """The new key goes to the top of the file; what the old one encrypted is still read."""
    old, new = generate(), generate()
    (tmp_path / "old").write_text(old)
    (tmp_path / "both").write_text(new + old)
    before, after = (Keys.load(BackupSettings(key_file=str(tmp_path / name))) for name in ("old", "both"))
    assert before
    assert after
    blob = blobs.write_blob(store, "dump.age", [DATA], keys=before)
    check_key(after, manifest(before.fingerprint))
    assert b"".join(blobs.read_blob(store, blob, keys=after)) == DATA
    assert after.fingerprint != before.fingerprint
    newer = blobs.write_blob(store, "newer.age", [DATA], keys=after)
    with pytest.raises(WrongKey):
        list(blobs.read_blob(store, newer, keys=before))


@pytest.mark.parametrize(
    "text",
    ["", "# only a comment\n", "AGE-SECRET-KEY-1BUTNOTREALLY", "hunter2", "age-encryption.org/v1\n-> scrypt x 18\n"],
)
def test_a_key_that_is_none_is_one_line_and_not_repeated(tmp_path: Path, text: str) -> None:
    file = tmp_path / "key.txt"
    file.write_text(text)
    with pytest.raises(SettingsError, match=r"^BACKUP_KEY_FILE=") as raised:
        Keys.load(BackupSettings(key_file=str(file)))
    refusals = [str(raised.value)]
    if text:
        with pytest.raises(SettingsError, match=r"^BACKUP_KEY:") as raised:
            Keys.load(BackupSettings(key=text))
        refusals.append(str(raised.value))
    for refusal in refusals:
        assert "\n" not in refusal
        assert "hunter2" not in refusal
        assert "NOTREALLY" not in refusal


def test_a_key_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "none", tmp_path, tmp_path / "binary"):
        with pytest.raises(SettingsError, match=r"^BACKUP_KEY_FILE=") as raised:
            Keys.load(BackupSettings(key_file=str(path)))
        assert "\n" not in str(raised.value)
    with pytest.raises(SettingsError, match="both set"):
        Keys.load(BackupSettings(key="x", key_file="y"))


def test_a_key_does_not_show_itself() -> None:
    text = generate()
    loaded = Keys.load(BackupSettings(key=text))
    with contextlib.suppress(TypeError):
        assert text.splitlines()[-1] not in f"{loaded} {loaded!r} {vars(loaded)}"


def told_in_one_sentence(error: BackupError, *words: str) -> None:
    text = str(error)
    assert "\n" not in text
    assert text.endswith("Nothing was changed.")
    for word in words:
        assert word in text
