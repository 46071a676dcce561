"""Objects in an S3 bucket, of Amazon or of any compatible store."""

from __future__ import annotations

import hashlib
import importlib
import threading
import time
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from objects.s3_errors import BucketErrors
from objects.s3_uploads import MEBIBYTE, upload
from objects.store import ObjectMissing, ObjectStoreError, StoredObject, checked_key
from zhiyun.settings import S3Settings

_BATCH = 1000  # keys that S3 deletes in one call
_LONGEST_KEY = 1024  # bytes
_LONGEST_PAUSE = 5.0  # seconds before a broken body is taken up again


class S3Objects:
    """An ObjectStore in a bucket, below a prefix (empty: the whole bucket).

    `setting` is the variable that the operator wrote the place into. boto3 is imported by the first call.
    """

    def __init__(
        self, name: str, bucket: str, prefix: str, settings: S3Settings, setting: str = "BACKUP_STORES"
    ) -> None:
        self._name = name
        self._bucket = bucket
        self._url = f"s3://{bucket}/{prefix}".rstrip("/")
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._settings = settings
        self._setting = setting
        self._errors = BucketErrors(str(self), bucket, settings, setting)
        self._lock = threading.Lock()
        self._made: Any = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def url(self) -> str:
        return self._url

    def put(self, key: str, chunks: Iterable[bytes]) -> int:
        """See ObjectStore. An upload in parts that fails is aborted."""
        failed = f"{key} was not written, and what was there before is untouched"
        return upload(self._client(failed), self._errors, self._bucket, self._full(key), chunks, failed)

    def read(self, key: str) -> Iterator[bytes]:
        """See ObjectStore. A connection that breaks is taken up where it broke, S3_ATTEMPTS times within a MiB."""
        failed = f"{key} cannot be read"
        client, where = self._client(failed), {"Bucket": self._bucket, "Key": self._full(key)}
        position, size, tag, broken, broke_at = 0, None, "", 0, 0
        while size is None or position < size:
            again = {} if size is None else {"Range": f"bytes={position}-", "IfMatch": tag}
            with self._errors.told(failed):
                answer = client.get_object(**where, **again)
            if size is None:
                size, tag = int(answer["ContentLength"]), str(answer["ETag"])
            with closing(answer["Body"]) as body:
                while position < size:
                    try:
                        with self._errors.told(f"{failed} after byte {position} of {size}"):
                            piece: bytes = body.read(MEBIBYTE)
                        if not piece:
                            break
                    except ObjectMissing:
                        raise
                    except ObjectStoreError:
                        # A connection that gives some bytes each time must not go on for ever.
                        broken = broken + 1 if position < broke_at + MEBIBYTE else 1
                        broke_at = position
                        if broken >= self._settings.attempts:
                            raise
                        time.sleep(min(0.1 * 2**broken, _LONGEST_PAUSE))
                        break
                    position += len(piece)
                    yield piece

    def stat(self, key: str) -> StoredObject | None:
        """See ObjectStore."""
        # HEAD answers 404 for a missing bucket as for a missing key; a listing tells them apart.
        full, failed = self._full(key), f"{key} cannot be looked at"
        client = self._client(failed)
        with self._errors.told(failed):
            answer = client.list_objects_v2(Bucket=self._bucket, Prefix=full, MaxKeys=1)
        first = next(iter(answer.get("Contents", [])), None)
        return self._stored(first) if first and first["Key"] == full else None

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """See ObjectStore. A page of up to 1000 at a time."""
        for entry in self._pages("list_objects_v2", "Contents", prefix, "nothing is known about its objects"):
            if not entry["Key"].endswith("/"):  # what consoles put there to show a folder
                yield self._stored(entry)

    def delete(self, keys: Iterable[str]) -> int:
        """See ObjectStore. In batches of 1000."""
        count, left = 0, iter(keys)
        while batch := [{"Key": self._full(key)} for key in islice(left, _BATCH)]:
            failed = f"not all of {len(batch)} objects were deleted"
            client = self._client(failed)
            with self._errors.told(failed):
                answer = client.delete_objects(Bucket=self._bucket, Delete={"Objects": batch, "Quiet": True})
            for error in answer.get("Errors", []):
                if error.get("Code") != "NoSuchKey":
                    raise ObjectStoreError(
                        f"{self} did not delete {error.get('Key')} ({error.get('Code')}): {failed} (check what the "
                        "credentials in S3_ACCESS_KEY_ID may do)."
                    )
            count += len(batch)
        return count

    def sweep(self, older_than: timedelta) -> int:
        """See ObjectStore: uploads in parts that were neither completed nor aborted."""
        count, before, failed = 0, datetime.now(UTC) - older_than, "not all unfinished uploads were aborted"
        client = self._client(failed)
        for found in self._pages("list_multipart_uploads", "Uploads", "", failed):
            if found["Initiated"] <= before:
                try:
                    with self._errors.told(failed):
                        client.abort_multipart_upload(Bucket=self._bucket, Key=found["Key"], UploadId=found["UploadId"])
                except ObjectStoreError as error:
                    if _code(error) != "NoSuchUpload":  # completed meanwhile
                        raise
                    continue
                count += 1
        return count

    def free_bytes(self) -> int | None:
        """None: a bucket does not tell."""
        return None

    def __str__(self) -> str:
        return f"The store {self._name} ({self._url}, {self._setting})"

    def _full(self, key: str) -> str:
        full = self._prefix + checked_key(key)
        try:
            if len(full.encode()) <= _LONGEST_KEY:
                return full
        except UnicodeEncodeError:
            pass
        raise ObjectStoreError(f"{self} cannot keep {key!r}: a key is UTF-8 text of up to {_LONGEST_KEY} bytes.")

    def _stored(self, entry: dict[str, Any]) -> StoredObject:
        return StoredObject(
            str(entry["Key"])[len(self._prefix) :], int(entry["Size"]), entry["LastModified"].astimezone(UTC)
        )

    def _pages(self, call: str, part: str, prefix: str, failed: str) -> Iterator[dict[str, Any]]:
        pages = iter(
            self._client(failed).get_paginator(call).paginate(Bucket=self._bucket, Prefix=self._prefix + prefix)
        )
        while True:
            with self._errors.told(failed):
                page = next(pages, None)
            if page is None:
                return
            yield from page.get(part, [])

    def _client(self, failed: str) -> Any:
        """boto3's client, made once; all threads may use it."""
        with self._lock:
            if self._made is None:
                with self._errors.told(failed):
                    try:
                        self._made = _client(self._settings)
                    except ValueError as error:  # an endpoint that is no address
                        raise ObjectStoreError(
                            f"{self} cannot be used, check S3_ENDPOINT_URL ({error}): {failed}."
                        ) from None
        return self._made


def _client(settings: S3Settings) -> Any:
    session: Any = importlib.import_module("boto3.session").Session()  # has no types
    config: Any = importlib.import_module("botocore.config").Config(
        connect_timeout=settings.timeout,
        read_timeout=settings.timeout,
        retries={"mode": "standard", "total_max_attempts": settings.attempts},
        s3={
            "addressing_style": "path" if settings.endpoint_url else "auto",
            # Over plain HTTP each part would be hashed a second time. The signature covers the MD5 of what is written.
            "payload_signing_enabled": False,
        },
        max_pool_connections=16,
        tcp_keepalive=True,
        # Parts carry an MD5, which all stores know; the checksums that botocore adds by itself break some of them.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    client = session.client(
        "s3",
        region_name=settings.region,
        endpoint_url=settings.endpoint_url or None,
        aws_access_key_id=settings.access_key_id or None,
        aws_secret_access_key=settings.secret_access_key or None,
        config=config,
    )
    client.meta.events.register("before-sign.s3.DeleteObjects", _add_md5)
    return client


def _add_md5(request: Any, **_: Any) -> None:
    """Stores that do not know the newer checksums refuse a deletion without this header."""
    if "Content-MD5" not in request.headers:
        request.headers["Content-MD5"] = b64encode(hashlib.md5(request.body, usedforsecurity=False).digest()).decode()


def _code(error: ObjectStoreError) -> str:
    response: dict[str, Any] = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
