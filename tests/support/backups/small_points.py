"""Recovery points of a small platform: made, harmed, listed, and refused without anything being touched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from objects.store import ObjectStoreError
from orchestration.backups.installation import Installation
from orchestration.backups.making import steps
from orchestration.backups.making.verify import verify_everywhere
from orchestration.backups.points import catalogue
from orchestration.backups.recovery_point import BackupError, Manifest
from orchestration.backups.restore import in_place
from tests.support.backups.backed_up import Platform

POINT, NEXT = "2026-01-01", "2026-01-02"
OBJECTS = {
    "dump": "postgres-platform.dump",
    "Dagster's dump": "postgres-dagster.dump",
    "globals": "globals.sql",
    "snapshot": ".snapshot",
    "golden answers": "golden.jsonl",
    "inventory": "files.jsonl",
    "file": "files/",
    "manifest": "manifest.json",
}


def installed(platform: Platform, store: Path | str, **changes: str) -> Installation:
    place = store if isinstance(store, str) else f"primary={store}"
    return platform.installation(BACKUP_STORES=place, **changes)


def make(platform: Platform, inst: Installation, point: str) -> steps.Made:
    with platform.settings():
        made = steps.make(inst, point, "hand")
    assert made.good, made.problems
    return made


def object_in(store: Path, what: str) -> Path:
    """The largest object of this kind."""
    found = [path for path in store.rglob("*") if path.is_file() and OBJECTS[what] in str(path.relative_to(store))]
    return max(found, key=lambda path: path.stat().st_size)


def one_sentence(text: str, *names: str) -> str:
    """What was told, if it is a line that names these, ends as a sentence does, and has no traceback in it."""
    assert "\n" not in text
    assert text.endswith("."), text
    assert len(text) < 600, text
    for name in names:
        assert name in text, f"{name!r} is not named: {text}"
    return text


@contextmanager
def untouched(platform: Platform) -> Iterator[None]:
    """Databases, aliases, collections and files are afterwards what they were before."""
    before = platform.state()
    yield
    assert platform.state() == before


def refused(platform: Platform, inst: Installation, *names: str, point: str = POINT) -> None:
    """A restore is refused, and so is verifying, in a sentence that names this; and nothing was touched."""
    with untouched(platform), platform.settings():
        with pytest.raises((BackupError, ObjectStoreError)) as caught:
            in_place.restore(inst, inst.primary, point)
        one_sentence(str(caught.value), *names)
        one_sentence(verify_everywhere(inst, point)["primary"], *names)


def listed(inst: Installation, point: str = POINT) -> catalogue.Point:
    return next(one for one in catalogue.points(inst.primary) if one.id == point)


def flip(path: Path) -> None:
    """One bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def manifest(inst: Installation, point: str = POINT) -> Manifest:
    manifest = catalogue.find(inst.primary, point).manifest
    assert manifest
    return manifest
