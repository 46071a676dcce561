"""One object on its way into an S3 bucket: in one piece if it is small, otherwise in parts, some of them at once."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from objects.s3_errors import BucketErrors
from objects.store import ObjectStoreError

MEBIBYTE = 1 << 20
_PART = 16 * MEBIBYTE
_IN_FLIGHT = 2 * _PART  # bytes on their way at once; one more part is being gathered meanwhile
_PARTS = 10_000  # S3 allows no more
_DOUBLED_EVERY = 2_500  # so parts have 16 MiB up to 39 GiB, and 576 GiB is the end


def upload(client: Any, errors: BucketErrors, bucket: str, full_key: str, chunks: Iterable[bytes], failed: str) -> int:
    """Write one object as its bytes come; gives their number.

    Up to 48 MiB are in memory; above 100 GB one or two parts of up to 128 MiB. What `chunks` raises aborts the upload.
    """
    pieces = _gathered(chunks)
    first = next(pieces)
    where = {"Bucket": bucket, "Key": full_key}
    if len(first) < _PART:
        with errors.told(failed):
            client.put_object(**where, Body=first, ContentMD5=_md5(first))
        return len(first)
    with errors.told(failed):
        where["UploadId"] = client.create_multipart_upload(**where)["UploadId"]
    parts = _Parts(client, errors, where, failed)
    try:
        parts.send(first)
        del first
        for piece in pieces:
            parts.send(piece)
        return parts.complete()
    except BaseException:
        parts.abort()
        raise


class _Parts:
    """The parts of one multipart upload. `where` is its bucket, key and id."""

    def __init__(self, client: Any, errors: BucketErrors, where: dict[str, str], failed: str) -> None:
        self._client = client
        self._errors = errors
        self._where = where
        self._failed = failed
        self._threads = ThreadPoolExecutor(_IN_FLIGHT // _PART, thread_name_prefix="s3-part")
        self._flying: deque[tuple[int, Future[str]]] = deque()
        self._etags: list[str] = []
        self._size = 0

    def send(self, piece: bytearray) -> None:
        """Send a part in a thread, once there is room for it. Raises what went wrong with an earlier one."""
        number = len(self._etags) + len(self._flying) + 1
        if number > _PARTS:
            raise ObjectStoreError(f"{self._failed}, because it is larger than {self._size >> 30} GiB.")
        while self._flying and sum(size for size, _ in self._flying) + len(piece) > _IN_FLIGHT:
            self._land()
        self._size += len(piece)
        self._flying.append((len(piece), self._threads.submit(self._upload, number, piece)))

    def complete(self) -> int:
        """Put the parts together: now the object is there. Gives its size."""
        while self._flying:
            self._land()
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(self._etags, 1)]
        try:
            self._client.complete_multipart_upload(**self._where, MultipartUpload={"Parts": parts})
        except Exception as error:
            # The answer to a first try may have been lost, and the second finds no upload any more.
            if not self._is_there():
                with self._errors.told(self._failed):
                    raise error
        self._threads.shutdown()
        return self._size

    def abort(self) -> None:
        """Make it as if nothing had been sent. If that fails too, `sweep` does it later."""
        # A part that is still under way would come after the abort, and stay.
        self._threads.shutdown(wait=True, cancel_futures=True)
        with suppress(Exception):
            self._client.abort_multipart_upload(**self._where)

    def _land(self) -> None:
        etag = self._flying[0][1].result()
        self._flying.popleft()
        self._etags.append(etag)

    def _upload(self, number: int, piece: bytearray) -> str:
        with self._errors.told(self._failed):
            answer = self._client.upload_part(**self._where, PartNumber=number, Body=piece, ContentMD5=_md5(piece))
        return str(answer["ETag"])

    def _is_there(self) -> bool:
        """Whether the object is the one that these parts make: its tag is a hash of the parts' hashes."""
        with suppress(Exception):
            hashes = b"".join(bytes.fromhex(etag.strip('"')) for etag in self._etags)
            tag = f'"{hashlib.md5(hashes, usedforsecurity=False).hexdigest()}-{len(self._etags)}"'
            return self._client.head_object(Bucket=self._where["Bucket"], Key=self._where["Key"])["ETag"] == tag
        return False


def _gathered(chunks: Iterable[bytes]) -> Iterator[bytearray]:
    """The bytes as parts of the right size; an empty one if there are no bytes at all."""
    number, piece = 1, bytearray()
    for chunk in chunks:
        view = memoryview(chunk)
        while view:
            size = _PART << (number - 1) // _DOUBLED_EVERY
            taken = view[: size - len(piece)]
            piece += taken
            view = view[len(taken) :]
            if len(piece) == size:
                yield piece
                number, piece = number + 1, bytearray()
    if piece or number == 1:
        yield piece


def _md5(piece: bytearray) -> str:
    # Every S3-compatible store checks this header; the newer checksums are known to only some of them.
    return b64encode(hashlib.md5(piece, usedforsecurity=False).digest()).decode()
