"""Snapshots as files: where they lie, what they are called, how they are listed, found, checked and fetched.

DATA/snapshots/<collection>/<name>.snapshot   of one collection, beside it its SHA-256 in <name>.snapshot.checksum
DATA/snapshots/full-snapshot-<time>.snapshot  of the whole store
"""

import contextlib
import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from embedded.qdrant.errors import ApiError, bad_request, not_found
from embedded.qdrant.shards.files import PIECE, replace_file, require_room, sync_folder

Object = dict[str, Any]
SUFFIX = ".snapshot"
_CHECKSUM = ".checksum"
_FETCH_TIMEOUT = 60.0


class SnapshotFolder:
    """A folder of snapshots."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """The snapshots' names, oldest first."""
        with contextlib.suppress(FileNotFoundError):
            found = [path for path in self.folder.iterdir() if path.suffix == SUFFIX and path.is_file()]
            return [path.name for path in sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))]
        return []

    def find(self, name: str) -> Path:
        """The file of a snapshot. A name is compared, never joined to a path, so none leads elsewhere."""
        if name not in self.names():
            raise not_found(f"Snapshot {name} not found")
        return self.folder / name

    def describe(self, name: str) -> Object:
        """Qdrant's description of a snapshot: name, creation time (UTC), size in bytes, SHA-256."""
        path = self.find(name)
        stat = path.stat()
        return {
            "name": name,
            "creation_time": datetime.fromtimestamp(stat.st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            "size": stat.st_size,
            "checksum": recorded_checksum(path),
        }

    def new_name(self, of: str) -> str:
        """A name that is not taken."""
        stem = f"{of}-{datetime.now(UTC):%Y-%m-%d-%H-%M-%S}"
        taken = set(self.names())
        return next(
            name
            for number in range(1, len(taken) + 2)
            if (name := f"{stem}{f'-{number}' if number > 1 else ''}{SUFFIX}") not in taken
        )

    def keep(self, made: Path, name: str, checksum: str) -> None:
        """Move a finished file in. It appears whole, and its checksum is there before it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        replace_file(self.folder / f"{name}{_CHECKSUM}", checksum.encode())
        made.replace(self.folder / name)
        sync_folder(self.folder)

    def delete(self, name: str) -> None:
        """Delete a snapshot, the file before its checksum."""
        path = self.find(name)
        path.unlink(missing_ok=True)
        Path(f"{path}{_CHECKSUM}").unlink(missing_ok=True)


def recorded_checksum(path: Path) -> str | None:
    """The SHA-256 that was written when the snapshot was made."""
    with contextlib.suppress(FileNotFoundError):
        return Path(f"{path}{_CHECKSUM}").read_text().strip()
    return None


def sha256_of(path: Path) -> str:
    """A file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def local_path(location: str, allowed: Path) -> Path:
    """The file that a `file://` location names. Raises ApiError unless it is there and below `allowed`."""
    parts = _split(location)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise ApiError(400, "Bad request: Invalid snapshot URI, file path must be absolute or on localhost")
    given = Path(unquote(parts.path))
    try:
        path = given.resolve(strict=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise ApiError(400, f'Bad request: Snapshot file "{given}" does not exist') from error
    if not path.is_relative_to(allowed.resolve()):
        raise ApiError(
            403, f'Forbidden: Snapshot file path must be inside the snapshots directory "{allowed.resolve()}"'
        )
    if not path.is_file():
        raise ApiError(400, f'Bad request: "{given}" is not a file')
    return path


def fetch(location: str, api_key: str | None, target: Path, reserve: int) -> None:
    """Download a snapshot from an http(s) URL. Raises ApiError (400) with what went wrong."""
    if _split(location).scheme not in ("http", "https"):
        raise bad_request(f"`location` is a file://, http:// or https:// URL, not {location[:80]!r}")
    try:
        request = urllib.request.Request(location, headers={"api-key": api_key} if api_key else {})  # noqa: S310
        with urllib.request.urlopen(request, timeout=_FETCH_TIMEOUT) as reply, target.open("wb") as file:  # noqa: S310
            for piece in _pieces(reply):
                require_room(target.parent, reserve + len(piece))
                file.write(piece)
    except urllib.error.HTTPError as error:
        raise ApiError(400, f"Bad request: {location} answered {error.code} {error.reason}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ApiError(400, f"Bad request: the snapshot could not be fetched from {location}: {reason}") from error


def _split(location: str) -> SplitResult:
    try:
        return urlsplit(location)
    except ValueError as error:
        raise bad_request(f"`location` is no URL: {error}") from error


def _pieces(reply: http.client.HTTPResponse) -> Iterator[bytes]:
    expected = reply.length
    got = 0
    while piece := reply.read(PIECE):
        got += len(piece)
        yield piece
    if expected is not None and got != expected:
        raise OSError(f"the connection ended after {got} of {expected} bytes")
