"""Damage in a store is found when it is verified, and the object that has it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from objects.folder import FolderObjects
from orchestration.backups.files.inventory import entries
from orchestration.backups.files.restore import verify
from orchestration.backups.recovery_point import PointDamaged
from orchestration.backups.streams.encryption import Keys
from tests.support.backups.file_trees import capture


@pytest.mark.parametrize("harm", ["flip", "cut", "missing", "longer"])
def test_each_kind_of_damage_is_found_and_names_the_object(
    docs: Path, store: FolderObjects, keys: Keys | None, harm: str
) -> None:
    part = capture(docs, store, keys=keys)
    entry = next(entry for entry in entries(store, part, keys) if entry.path == "说明.md")
    path = Path(store.url.removeprefix("file://")) / entry.object
    data = bytearray(path.read_bytes())
    for at in range(0, len(data), 7) if harm == "flip" else [0]:
        match harm:
            case "flip":
                path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            case "cut":
                path.write_bytes(data[:-1])
            case "longer":
                path.write_bytes(data + b"\0")
            case _:
                path.unlink()
        with pytest.raises(PointDamaged) as error:
            verify(store, part, keys)
        assert entry.object in str(error.value)


def test_an_object_that_holds_something_else_is_found(docs: Path, store: FolderObjects) -> None:
    part = capture(docs, store)
    one, other = [entry for entry in entries(store, part) if entry.path in ("a.txt", "a/b.txt")]
    folder = Path(store.url.removeprefix("file://"))
    (folder / one.object).write_bytes((folder / other.object).read_bytes())
    with pytest.raises(PointDamaged, match="does not have the hash"):
        verify(store, part)
