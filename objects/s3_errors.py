"""What goes wrong with an S3 bucket, in one sentence that names the setting."""

from __future__ import annotations

import importlib
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from objects.store import ObjectMissing, ObjectStoreError
from zhiyun.settings import S3Settings

_REFUSED = {
    "AccessDenied", "AllAccessDisabled", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch",
    "TokenRefreshRequired", "UnauthorizedAccess", "401", "403",
}  # fmt: skip
_UNREACHABLE = ("EndpointConnectionError", "ConnectTimeoutError", "ProxyConnectionError", "SSLError", "InvalidEndpoint")
_SILENT = (
    "ReadTimeoutError",
    "ConnectionClosedError",
    "HTTPClientError",
    "ResponseStreamingError",
    "IncompleteReadError",
)
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound")


class BucketErrors:
    """Turns what botocore raises into ObjectStoreError. `store` is how the store is called in sentences."""

    def __init__(self, store: str, bucket: str, settings: S3Settings, setting: str) -> None:
        self._store = store
        self._bucket = bucket
        self._settings = settings
        self._setting = setting

    @contextmanager
    def told(self, failed: str) -> Generator[None]:
        """`failed` says what did not happen, and what was untouched."""
        exceptions: Any = importlib.import_module("botocore.exceptions")  # has no types
        try:
            yield
        except (exceptions.BotoCoreError, exceptions.ClientError) as error:
            raise self.error(error, failed) from error
        except OSError as error:  # a connection that botocore did not wrap
            raise ObjectStoreError(f"{self._store} broke the connection ({error}): {failed}.") from error

    def error(self, error: Any, failed: str) -> ObjectStoreError:
        """The sentence for one of botocore's exceptions."""
        kind = ObjectStoreError
        response: dict[str, Any] = getattr(error, "response", None) or {}
        code = str(response.get("Error", {}).get("Code", ""))
        status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        names = {base.__name__ for base in type(error).__mro__}
        tries = f"{self._settings.attempts} tries (S3_ATTEMPTS)"
        if code == "NoSuchBucket":
            reason = f"cannot be used, because the bucket {self._bucket} does not exist (create it, or correct {self._setting})"
        elif code == "NoSuchKey":
            kind, reason = ObjectMissing, "has no such object"
        elif code == "PreconditionFailed":
            reason = "has another object under the key since the reading began"
        elif code in _REFUSED or status in (401, 403):
            reason = f"refuses the credentials with {code} (check S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, and what they may do)"
        elif code:
            after = f" after {tries}" if status >= 500 else ""
            reason = f"answers {status} {code}{after} (S3_ENDPOINT_URL is {self._endpoint})"
        elif names & set(_NO_CREDENTIALS):
            reason = "cannot be used without credentials (set S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY)"
        elif names & set(_UNREACHABLE):
            reason = f"cannot be reached at {self._endpoint} in {tries} (check S3_ENDPOINT_URL)"
        elif names & set(_SILENT):
            reason = f"does not answer in {self._settings.timeout:g} s (S3_TIMEOUT) or breaks off, in {tries}, at {self._endpoint}"
        else:
            reason = f"cannot be used at {self._endpoint} ({type(error).__name__}; check S3_ENDPOINT_URL)"
        return kind(f"{self._store} {reason}: {failed}.")

    @property
    def _endpoint(self) -> str:
        """The address without a user and a password."""
        parts = urlsplit(self._settings.endpoint_url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else "Amazon's address"
