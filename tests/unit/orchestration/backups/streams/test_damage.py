"""An object that is not what was written is an error, whichever byte of it changed, is missing or too many."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from objects.folder import FolderObjects
from orchestration.backups.recovery_point import PointDamaged
from orchestration.backups.streams import blobs
from orchestration.backups.streams.encryption import Keys
from tests.support.backups.chunks import DATA, told_in_one_sentence


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


def test_a_missing_object_and_a_hash_of_another_are_found(store: FolderObjects) -> None:
    blob = blobs.write_blob(store, "points/x/dump", [DATA])
    blobs.write_blob(store, "points/x/dump", [DATA[::-1]])
    with pytest.raises(PointDamaged, match="points/x/dump"):
        list(blobs.read_blob(store, blob))
    store.delete([blob.key])
    for read in (lambda: list(blobs.read_blob(store, blob)), lambda: blobs.hash_blob(store, blob)):
        with pytest.raises(PointDamaged, match="points/x/dump is missing"):
            read()


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
