"""Settings that lead to no bucket are one sentence that names the setting."""

from __future__ import annotations

import pytest

from objects.s3 import S3Objects
from objects.store import ObjectMissing, ObjectStoreError
from tests.support.faults.s3_faults import Faults
from tests.support.object_stores import content, keys, one_sentence
from zhiyun.settings import S3Settings


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied"])
def test_credentials_that_are_refused_are_one_sentence(wire: Faults, bucket: S3Objects, code: str) -> None:
    wire.fail(status=403, code=code)
    with pytest.raises(ObjectStoreError, match=code) as raised:
        bucket.put("old", [b"new"])
    one_sentence(raised.value, "offsite", bucket.url, "S3_ACCESS_KEY_ID", "untouched")


def test_a_key_without_its_secret_is_one_sentence(s3_bucket: str, s3_settings: S3Settings) -> None:
    settings = s3_settings.model_copy(update={"secret_access_key": ""})
    with pytest.raises(ObjectStoreError, match="S3_SECRET_ACCESS_KEY") as raised:
        keys(S3Objects("offsite", s3_bucket, "", settings))
    one_sentence(raised.value, "without credentials")


def test_a_bucket_that_does_not_exist_is_one_sentence(s3_settings: S3Settings) -> None:
    store = S3Objects("offsite", "no-such-bucket", "", s3_settings, "BACKUP_STORES")
    for use in (
        lambda: store.put("a", [b"x"]),
        lambda: content(store, "a"),
        lambda: keys(store),
        lambda: store.stat("a"),
    ):
        with pytest.raises(ObjectStoreError, match="no-such-bucket does not exist") as raised:
            use()
        assert not isinstance(raised.value, ObjectMissing)
        one_sentence(raised.value, "offsite", "s3://no-such-bucket", "BACKUP_STORES")


@pytest.mark.parametrize(
    "endpoint", ["http://someone:a-secret@127.0.0.1:1", "http://127.0.0.1:1", "http://127.0.0.1:99999", "http://"]
)
def test_an_address_where_no_store_is_is_one_sentence(s3_settings: S3Settings, endpoint: str) -> None:
    settings = s3_settings.model_copy(update={"endpoint_url": endpoint, "attempts": 1})
    with pytest.raises(ObjectStoreError, match="S3_ENDPOINT_URL") as raised:
        S3Objects("offsite", "bucket", "", settings).put("a", [b"x"])
    one_sentence(raised.value, "offsite", "s3://bucket")
