"""A bucket that fails, is slow or cuts its answers is told in a sentence, and no older point is doubted for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from objects.s3 import S3Objects
from objects.store import ObjectStoreError
from orchestration.backups.making import steps
from orchestration.backups.making.verify import verify_everywhere
from orchestration.backups.points import catalogue
from orchestration.backups.recovery_point import PointDamaged
from orchestration.backups.restore import in_place
from tests.support.backups.backed_up import Platform
from tests.support.backups.small_points import (
    NEXT,
    POINT,
    flip,
    installed,
    listed,
    make,
    object_in,
    one_sentence,
    refused,
    untouched,
)
from tests.support.faults.s3_faults import faulty
from zhiyun.settings import S3Settings

pytestmark = pytest.mark.slow


def s3(url: str, **changes: str) -> dict[str, str]:
    return {
        "S3_ENDPOINT_URL": url, "S3_ACCESS_KEY_ID": "zhiyun", "S3_SECRET_ACCESS_KEY": "a-secret", "S3_ATTEMPTS": "2",
        "S3_TIMEOUT": "20", **changes,
    }  # fmt: skip


@pytest.fixture
def bucket(platform: Platform, s3_bucket: str, s3_settings: S3Settings) -> str:
    """A bucket that has the plain store in it."""
    target = S3Objects("primary", s3_bucket, "", s3_settings)
    for path in (platform.home / "plain").rglob("*"):
        if path.is_file():
            target.put(str(path.relative_to(platform.home / "plain")), [path.read_bytes()])
    return s3_bucket


def test_a_bucket_that_answers_500_is_told_and_nothing_is_touched(
    platform: Platform, bucket: str, s3_server: str
) -> None:
    with faulty(s3_server) as faults:
        inst = installed(platform, f"primary=s3://{bucket}", **s3(faults.url))
        faults.fail()
        refused(platform, inst, f"s3://{bucket}", "BACKUP_STORES")
        faults.mend()
        faults.only = lambda method, path: "postgres-platform" in path and method in ("PUT", "POST")
        faults.fail()
        with untouched(platform), platform.settings(), pytest.raises(ObjectStoreError) as caught:
            steps.make(inst, NEXT, "hand")
        one_sentence(str(caught.value), "postgres-platform", f"s3://{bucket}")
        assert listed(inst).state == "verified"
        assert listed(inst, NEXT).reason == str(caught.value)
        faults.mend()
        faults.only = lambda method, path: "postgres-dagster" in path
        faults.fail(times=1)  # once is nothing
        make(platform, inst, NEXT)


def test_a_bucket_that_is_too_slow_is_told_and_one_that_is_slow_is_waited_for(
    platform: Platform, bucket: str, s3_server: str
) -> None:
    with faulty(s3_server) as faults:
        hasty = installed(platform, f"primary=s3://{bucket}", **s3(faults.url, S3_TIMEOUT="3", S3_ATTEMPTS="1"))
        faults.only = lambda method, path: "postgres-platform" in path
        faults.delay(4)
        refused(platform, hasty, f"s3://{bucket}", "S3_TIMEOUT")
        with platform.settings(), pytest.raises(ObjectStoreError) as caught:
            steps.make(hasty, NEXT, "hand")
        one_sentence(str(caught.value), "postgres-platform", "S3_TIMEOUT")
        assert listed(hasty).state == "verified"
        faults.delay(0.5)
        make(platform, hasty, NEXT)


def test_a_bucket_whose_answers_are_cut_is_told_and_one_cut_is_taken_up(
    platform: Platform, bucket: str, s3_server: str
) -> None:
    with faulty(s3_server) as faults:
        inst = installed(platform, f"primary=s3://{bucket}", **s3(faults.url))
        faults.only = lambda method, path: "postgres-platform" in path
        faults.cut(after=1000, times=1)
        with platform.settings():
            assert verify_everywhere(inst, POINT) == {"primary": ""}
        faults.cut(after=0)
        refused(platform, inst, "postgres-platform", "cannot be read")
        # A store that does not answer says nothing about the point.
        assert listed(inst).state == "verified"


def test_a_copy_that_fails_is_told_and_the_primary_point_is_verified(
    platform: Platform, s3_bucket: str, s3_server: str, tmp_path: Path
) -> None:
    with faulty(s3_server) as faults:
        place = f"primary={tmp_path / 'store'},offsite=s3://{s3_bucket}/copy"
        inst = installed(platform, place, **s3(faults.url))
        faults.fail()
        with platform.settings():
            made = steps.make(inst, POINT, "hand")
        assert made.problems["primary"] == ""
        one_sentence(made.problems["offsite"], f"s3://{s3_bucket}/copy")
        assert listed(inst).state == "verified"
        faults.mend()
        make(platform, inst, NEXT)
        assert [(point.id, dict(point.stores)) for point in catalogue.merge(map(catalogue.points, inst.stores))] == [
            (NEXT, {"primary": "verified", "offsite": "verified"}),
            (POINT, {"primary": "verified"}),
        ]


def test_two_stores_are_each_verified_and_a_damaged_copy_is_told_of_that_store(
    platform: Platform, tmp_path: Path
) -> None:
    inst = installed(platform, f"primary={tmp_path / 'store'},offsite={tmp_path / 'copy'}")
    made = make(platform, inst, POINT)
    assert made.problems == {"primary": "", "offsite": ""}
    assert [listed(inst).state, catalogue.points(inst.stores[1])[0].state] == ["verified", "verified"]
    path = object_in(tmp_path / "copy", "dump")
    flip(path)
    with platform.settings():
        problems = verify_everywhere(inst, POINT)
        assert problems["primary"] == ""
        one_sentence(problems["offsite"], str(path))
        with untouched(platform), pytest.raises(PointDamaged):
            in_place.restore(inst, inst.store("offsite"), POINT)
    assert catalogue.merge(map(catalogue.points, inst.stores))[0].stores == {"primary": "verified", "offsite": "failed"}
