"""Without the right key nothing is touched, and a wrong key is not taken for damage, nor damage for a wrong key."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from orchestration.backups.recovery_point import PointDamaged
from orchestration.backups.restore import in_place
from orchestration.backups.streams import encryption
from tests.support.backups.backed_up import Platform
from tests.support.backups.small_points import POINT, flip, installed, listed, manifest, object_in, refused

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("what", ["dump", "snapshot", "file"])
def test_one_flipped_byte_in_what_is_encrypted_is_no_matter_of_the_key(
    platform: Platform, tmp_path: Path, what: str
) -> None:
    store = shutil.copytree(platform.home / "sealed", tmp_path / "store")
    path = object_in(store, what)
    flip(path)
    inst = installed(platform, store, BACKUP_KEY_FILE=str(platform.home / "key"))
    refused(platform, inst, str(path.relative_to(store)))
    with pytest.raises(PointDamaged):
        in_place.check(inst, inst.primary, manifest(inst))


def test_without_the_key_nothing_is_touched(platform: Platform) -> None:
    refused(platform, installed(platform, platform.home / "sealed"), "BACKUP_KEY_FILE", POINT)
    assert listed(installed(platform, platform.home / "sealed")).state == "verified"


def test_with_another_key_nothing_is_touched(platform: Platform) -> None:
    inst = installed(platform, platform.home / "sealed", BACKUP_KEY_FILE=str(platform.home / "other-key"))
    right = encryption.Keys.load(platform.installation(BACKUP_KEY_FILE=str(platform.home / "key")).backup)
    assert right
    assert inst.keys
    refused(platform, inst, "BACKUP_KEY_FILE", right.fingerprint, inst.keys.fingerprint)
    # A wrong key says nothing about the point.
    assert listed(inst).state == "verified"
