"""Whatever goes wrong on the way to S3 is got over, or is one sentence and leaves the old object and no upload."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from objects.s3 import S3Objects
from objects.store import ObjectStoreError
from tests.support.faults.s3_faults import Faults
from tests.support.object_stores import MEBIBYTE, NOW, behind, content, keys, noise, one_sentence
from zhiyun.settings import S3Settings


def nothing_new(wire: Faults, bucket: S3Objects) -> None:
    """Only the old object is there, and no unfinished upload."""
    wire.mend()
    assert keys(bucket) == ["old"]
    assert content(bucket, "old") == b"old"
    assert bucket.sweep(NOW) == 0


def test_an_error_that_passes_is_got_over(wire: Faults, bucket: S3Objects) -> None:
    wire.fail(1, 503, "SlowDown")
    bucket.put("new", noise(20))
    wire.fail(1)
    assert keys(bucket) == ["new", "old"]


def test_a_store_that_only_answers_errors_is_one_sentence(wire: Faults, bucket: S3Objects) -> None:
    wire.fail()
    uses: list[Callable[[], object]] = [
        lambda: bucket.put("old", [b"new"]),
        lambda: content(bucket, "old"),
        lambda: keys(bucket),
        lambda: bucket.stat("old"),
        lambda: bucket.delete(["old"]),
        lambda: bucket.sweep(NOW),
    ]
    for use in uses:
        with pytest.raises(ObjectStoreError) as raised:
            use()
        one_sentence(raised.value, "offsite", bucket.url, "500 InternalError", "S3_ATTEMPTS", "S3_ENDPOINT_URL")
    nothing_new(wire, bucket)


@pytest.mark.parametrize("part", ["uploads", "partNumber=2", "POST"])
def test_an_upload_that_fails_on_the_way_is_aborted(wire: Faults, bucket: S3Objects, part: str) -> None:
    """When it begins, at its second part, when it is to be completed."""
    wire.only = lambda method, path: part in path or (part == method and "uploadId" in path)
    wire.fail()
    for key in ("old", "new"):
        with pytest.raises(ObjectStoreError, match="untouched"):
            bucket.put(key, noise(40))
    nothing_new(wire, bucket)


def test_an_answer_that_is_lost_is_no_failure(wire: Faults, bucket: S3Objects) -> None:
    """The upload was completed, and a second try finds no upload."""
    wire.only = lambda method, path: method == "POST" and "uploadId" in path
    wire.lose_answers(1)
    assert bucket.put("new", noise(20)) == 20 * MEBIBYTE
    assert bucket.stat("new") is not None
    assert bucket.sweep(NOW) == 0


def test_a_store_that_is_too_slow_is_one_sentence(
    wire: Faults, bucket: S3Objects, s3_bucket: str, s3_settings: S3Settings
) -> None:
    impatient = behind(wire, s3_bucket, s3_settings, timeout=0.5)
    wire.delay(1.5)
    with pytest.raises(ObjectStoreError, match="S3_TIMEOUT") as raised:
        content(impatient, "old")
    one_sentence(raised.value, "offsite", bucket.url, "0.5 s")


def test_a_body_that_is_cut_is_taken_up_where_it_broke(wire: Faults, bucket: S3Objects) -> None:
    bucket.put("large", noise(6))
    wire.seen.clear()
    wire.cut(after=2 * MEBIBYTE + 1000)
    assert content(bucket, "large") == b"".join(noise(6))
    assert len(wire.seen) == 3


def test_a_body_that_is_always_cut_at_once_is_one_sentence(wire: Faults, bucket: S3Objects) -> None:
    bucket.put("large", noise(2))
    wire.cut(after=100)
    with pytest.raises(ObjectStoreError, match=r"after byte \d+ of 2097152") as raised:
        content(bucket, "large")
    one_sentence(raised.value, "offsite", bucket.url)


def test_an_object_that_is_replaced_while_it_is_read_is_not_mixed(wire: Faults, bucket: S3Objects) -> None:
    bucket.put("large", noise(6))
    wire.cut(after=2 * MEBIBYTE + 1000, times=1)
    reader = bucket.read("large")
    next(reader)
    bucket.put("large", [bytes(6 * MEBIBYTE)])
    with pytest.raises(ObjectStoreError, match="another object"):
        list(reader)
