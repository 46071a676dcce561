"""Damage in a recovery point is found before anything is touched, and the object that has it is named."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec
import pytest

from orchestration.backups.points import catalogue
from orchestration.backups.recovery_point import FORMAT, BackupError, manifest_key
from tests.support.backups.backed_up import Platform
from tests.support.backups.small_points import OBJECTS, POINT, flip, installed, listed, manifest, object_in, refused

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("what", OBJECTS)
def test_one_flipped_byte_is_found_before_anything_is_touched(platform: Platform, store: Path, what: str) -> None:
    path = object_in(store, what)
    flip(path)
    inst = installed(platform, store)
    refused(platform, inst, str(path.relative_to(store)))
    assert listed(inst).state == "failed"
    with pytest.raises(BackupError, match="no verified recovery point"):
        catalogue.find(inst.primary, "latest")


@pytest.mark.parametrize("what", ["dump", "globals", "snapshot", "inventory", "file", "manifest"])
def test_a_truncated_object_is_found_before_anything_is_touched(platform: Platform, store: Path, what: str) -> None:
    path = object_in(store, what)
    os.truncate(path, path.stat().st_size * 2 // 3)
    refused(platform, installed(platform, store), str(path.relative_to(store)))


@pytest.mark.parametrize("what", ["dump", "globals", "snapshot", "inventory", "file"])
def test_a_missing_object_is_found_before_anything_is_touched(platform: Platform, store: Path, what: str) -> None:
    path = object_in(store, what)
    path.unlink()
    refused(platform, installed(platform, store), str(path.relative_to(store)), "missing")


def test_an_object_that_belongs_to_another_point_is_found(platform: Platform, store: Path) -> None:
    path = object_in(store, "dump")
    shutil.copy(object_in(store, "Dagster's dump"), path)
    refused(platform, installed(platform, store), str(path.relative_to(store)))


def test_a_manifest_from_the_future_is_refused_by_its_version(platform: Platform, store: Path) -> None:
    path = store / manifest_key(POINT)
    inst = installed(platform, store)
    path.write_bytes(catalogue.encode_manifest(msgspec.structs.replace(manifest(inst), format=FORMAT + 1)))
    refused(platform, inst, manifest_key(POINT), "later version", f"format {FORMAT + 1}")
    assert listed(inst).later
