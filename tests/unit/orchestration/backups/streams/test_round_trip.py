"""What comes out of a stream is what went in, in small pieces, and other programs can read it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from objects.folder import FolderObjects
from orchestration.backups.streams import blobs
from orchestration.backups.streams.encryption import Keys, generate
from orchestration.backups.streams.zstd_frames import FrameEnd
from tests.support.backups.chunks import DATA, MEBIBYTE, cut
from zhiyun.settings import BackupSettings

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


def test_much_that_was_packed_well_comes_in_small_pieces() -> None:
    """A gigabyte of zeros is some kilobytes; it must not be in memory at once."""
    packed = list(blobs.compressed(bytes(MEBIBYTE) for _ in range(1024)))
    assert sum(map(len, packed)) < MEBIBYTE
    total = 0
    for piece in blobs.decompressed([b"".join(packed)]):
        assert len(piece) <= MEBIBYTE
        total += len(piece)
    assert total == 1 << 30
